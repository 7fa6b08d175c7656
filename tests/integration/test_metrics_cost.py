"""What a scrape costs the database: nothing; and what is counted between scrapes is read from indexes."""

from __future__ import annotations

import json
from typing import Any, Final

import aiohttp
import asyncpg
import pytest

from tests.e2e.scene import free_port
from tests.whole import whole_daemon
from waemitter.outbox.store import OutboxStore
from waemitter.turns.store import TurnStore

SCRAPES: Final = 100
FINISHED: Final = """
    insert into waemitter.outbox_messages (recipient, message_type, payload, status, available_at, attempts, claimed_at, sent_at,
                                           whatsapp_message_id, token)
    select '+1415' || n, 'text', '{"text": {"body": "Hello"}}', 'sent', null, 1, now(), now(), 'wamid.' || n, n
    from generate_series(1, 20000) n
"""
TURNS: Final = """
    with c as (insert into waemitter.contacts (channel, wa_id) values ('default', '14155550123') returning id),
    v as (insert into waemitter.conversations (channel, contact_id) select 'default', id from c returning id)
    insert into waemitter.message_buffer (conversation_id, status, closes_at, closed_at, processed_at)
    select v.id, 'completed', null, now(), now() from v, generate_series(1, 5000)
"""


async def test_a_scrape_asks_the_database_nothing(
    dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    async with (
        whole_daemon(dsn, monkeypatch, HTTP__PORT=str(port)) as daemon,
        aiohttp.ClientSession() as session,
    ):
        await daemon.admin.execute("set session_replication_role = replica")
        await daemon.admin.execute(FINISHED)
        asked = len(daemon.statements)
        for _ in range(SCRAPES):
            async with session.get(f"http://127.0.0.1:{port}/metrics") as answer:
                assert "waemitter_outbox_messages" in await answer.text()
        # What an idle daemon asks by itself in the meantime is far less than one statement for each.
        assert len(daemon.statements) - asked < SCRAPES / 2


@pytest.mark.parametrize(
    ("fill", "statement", "table"),
    [
        (FINISHED, OutboxStore.DEPTH, "outbox_messages"),
        (TURNS, TurnStore.DEPTH, "message_buffer"),
    ],
)
async def test_what_is_counted_is_read_from_the_index_of_what_waits(
    connection: asyncpg.Connection[asyncpg.Record], fill: str, statement: str, table: str
) -> None:
    await connection.execute("set session_replication_role = replica")
    await connection.execute(fill)
    await connection.execute(f"vacuum analyze waemitter.{table}")
    (told,) = json.loads(await connection.fetchval(f"explain (format json) {statement}"))
    scans = [node for node in nodes(told["Plan"]) if node.get("Relation Name") == table]
    assert scans
    assert [node["Node Type"] for node in scans if node["Node Type"] == "Seq Scan"] == []


def nodes(plan: dict[str, Any]) -> list[dict[str, Any]]:
    """A plan's node and all below it."""
    return [plan, *(node for part in plan.get("Plans", ()) for node in nodes(part))]
