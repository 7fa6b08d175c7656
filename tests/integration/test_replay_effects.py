"""The journal replayed through the splitter, all of it and twice: nothing happens twice."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import orjson
import pytest

from tests.inbox_bench import Bench, opened, said, status, told, webhook
from waemitter.inbox.journal.store import Chosen, ReplayStore

PAYLOADS: Final = sorted((Path(__file__).parents[1] / "payloads").glob("*.json"))
NOT_POSTED: Final = ("api_", "signature_vectors")  # answers of Meta's API, and no webhook
BOOKKEEPING: Final = frozenset({"webhook_logs"})  # a replay is written down there, and only there

TABLES: Final = """
    select relname from pg_class where relnamespace = 'waemitter'::regnamespace and relkind = 'r' order by 1
"""

UNDONE: Final = "select count(*) from waemitter.webhook_logs where available_at is not null or error is not null"


@pytest.fixture
async def bench(dsn: str) -> AsyncIterator[Bench]:
    async with opened(dsn) as bench:
        yield bench


async def everything(bench: Bench) -> dict[str, list[dict[str, Any]]]:
    """Every row of every table, but for those of the journal itself, and when a conversation was last touched."""
    tables = [row["relname"] for row in await bench.pool.fetch(TABLES)]
    return {
        table: [
            {key: value for key, value in row.items() if key != "updated_at"}
            for row in await bench.pool.fetch(f"select * from waemitter.{table} t order by t::text")
        ]
        for table in tables
        if table not in BOOKKEEPING
    }


async def replay(bench: Bench) -> int:
    replayed = await ReplayStore(bench.pool).replay(Chosen(), after=0, limit=1000)
    await bench.split()
    assert await bench.pool.fetchval(UNDONE) == 0
    return len(replayed)


async def test_a_journal_that_is_replayed_twice_changes_nothing(bench: Bench) -> None:
    sent, failed = await bench.message(), await bench.message(recipient="+14155550199")
    refused = {"code": 131026, "title": "Message undeliverable"}
    bodies = [
        *(path.read_bytes() for path in PAYLOADS if not path.name.startswith(NOT_POSTED)),
        webhook(status("read", sent), status("delivered", sent), status("sent", sent)),
        webhook(status("failed", failed, errors=[refused])),
        told(said("wamid.1"), said("wamid.2", type="text", text={"body": "STOP"})),
        told({"type": "text"}),
        orjson.dumps({"object": "whatsapp_business_account", "entry": "no list"}),
        b"no json",
    ]
    await bench.journal(*bodies)
    await bench.split()
    assert (await bench.status_of(sent.message_id), await bench.status_of(failed.message_id)) == (
        "read",
        "failed",
    )
    once = await everything(bench)
    assert {"inbound_messages", "parked_statuses", "dead_letters"} <= {
        table for table, rows in once.items() if rows
    }
    for _ in range(2):
        assert await replay(bench) == len(bodies)
        again = await everything(bench)
        for table, rows in once.items():
            assert again[table] == rows, table
