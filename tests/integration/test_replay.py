"""A webhook that is replayed does nothing twice; what is old is purged and blanked."""

from __future__ import annotations

import asyncio
import json
import shlex
from datetime import datetime, timedelta
from pathlib import Path
from typing import TypeAlias

import asyncpg
import pytest
from typer.testing import CliRunner

from waemitter.cli.main import app
from waemitter.db.pool import open_pool
from waemitter.inbox.journal.records import Entry
from waemitter.inbox.journal.store import Chosen, JournalStore, ReplayStore
from waemitter.whatsapp.signature import sign

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
HOUR = timedelta(hours=1)
WORKED_OFF = """
    update waemitter.webhook_logs set available_at = null, attempts = 1, processed_at = case when error is null then now() end
"""
DUE = "select id from waemitter.webhook_logs where available_at is not null order by id"
AGED = "update waemitter.webhook_logs set created_at = now() - $2::interval where id = $1"


@pytest.fixture
async def ids(dsn: str, connection: Connection) -> list[int]:
    """Five webhooks, an hour apart, the newest last; the second failed."""
    async with open_pool(dsn, size=2) as pool:
        await JournalStore(pool).append(
            [Entry("whatsapp", b'{"n": %d}' % n, "{}") for n in range(5)]
        )
    found = [row["id"] for row in await connection.fetch(DUE)]
    for n, webhook_id in enumerate(found):
        await connection.execute(AGED, webhook_id, HOUR * (5 - n))
    await connection.execute(
        "update waemitter.webhook_logs set error = 'KeyError: it' where id = $1", found[1]
    )
    await connection.execute(WORKED_OFF)
    return found


async def due(connection: Connection) -> list[int]:
    return [row["id"] for row in await connection.fetch(DUE)]


@pytest.mark.parametrize(
    ("chosen", "which"),
    [
        (Chosen(), [0, 1, 2, 3, 4]),
        (Chosen(since=HOUR * 2.5), [3, 4]),
        (Chosen(until=HOUR * 3.5), [0, 1]),
        (Chosen(since=HOUR * 4.5, until=HOUR * 2.5), [1, 2]),
        (Chosen(error="KeyError"), [1]),
        (Chosen(error=""), [1]),
        (Chosen(error="TypeError"), []),
        (Chosen(since=datetime.fromisoformat("2000-01-01T00:00:00+00:00")), [0, 1, 2, 3, 4]),
        (Chosen(until=datetime.fromisoformat("2000-01-01T00:00:00+00:00")), []),
    ],
)
async def test_those_that_are_chosen_are_due_again(
    dsn: str, connection: Connection, ids: list[int], chosen: Chosen, which: list[int]
) -> None:
    async with open_pool(dsn, size=2) as pool:
        store = ReplayStore(pool)
        listed = [row["id"] for row in await store.newest_first(chosen, limit=9)]
        replayed = await store.replay(chosen, after=0, limit=9)
        assert sorted(replayed) == [ids[n] for n in which] == await due(connection) == listed[::-1]
        assert await store.replay(chosen, after=0, limit=9) == []  # they are due as it is


async def test_pages_follow_each_other(dsn: str, ids: list[int]) -> None:
    async with open_pool(dsn, size=2) as pool:
        store = ReplayStore(pool)
        assert sorted(await store.replay(Chosen(), after=0, limit=2)) == ids[:2]
        assert sorted(await store.replay(Chosen(), after=ids[1], limit=9)) == ids[2:]


async def test_what_was_done_is_not_replayed_when_its_keys_may_be_forgotten(
    dsn: str, connection: Connection, ids: list[int]
) -> None:
    for webhook_id in ids:
        await connection.execute(AGED, webhook_id, timedelta(days=9))
    async with open_pool(dsn, size=2) as pool:
        assert await ReplayStore(pool).replay(Chosen(), after=0, limit=9) == [ids[1]]


async def test_a_replay_rings_the_bell(dsn: str, connection: Connection, ids: list[int]) -> None:
    heard = asyncio.Event()
    await connection.add_listener("waemitter_inbox", lambda *_: heard.set())
    async with open_pool(dsn, size=2) as pool:
        await ReplayStore(pool).replay(Chosen(ids=ids[:1]), after=0, limit=9)
    async with asyncio.timeout(5):
        await heard.wait()


async def test_purging_takes_the_oldest_that_are_worked_off_and_no_more_than_told(
    connection: Connection, ids: list[int]
) -> None:
    purge = "select waemitter.purge_webhook_logs(older_than => $1, max_rows => $2)"
    await connection.execute(
        "update waemitter.webhook_logs set available_at = now() where id = $1", ids[0]
    )
    assert await connection.fetchval(purge, HOUR * 1.5, 2) == 2
    assert await connection.fetchval(purge, HOUR * 1.5, 2) == 1
    assert await connection.fetchval(purge, HOUR * 1.5, 2) == 0
    left = [
        row["id"]
        for row in await connection.fetch("select id from waemitter.webhook_logs order by id")
    ]
    assert left == [ids[0], ids[4]]


async def test_blanking_keeps_the_row_and_forgets_what_was_said(
    dsn: str, connection: Connection, ids: list[int]
) -> None:
    blank = "select waemitter.blank_webhook_logs(older_than => $1, max_rows => $2)"
    assert await connection.fetchval(blank, HOUR * 1.5, 3) == 3
    assert await connection.fetchval(blank, HOUR * 1.5, 3) == 1
    assert await connection.fetchval(blank, HOUR * 1.5, 3) == 0
    rows = await connection.fetch(
        "select body, headers, processed_at from waemitter.webhook_logs order by id"
    )
    assert [row["body"] for row in rows] == [b"", b"", b"", b"", b'{"n": 4}']
    assert [row["headers"] for row in rows[:4]] == [None] * 4
    async with open_pool(dsn, size=2) as pool:
        assert await ReplayStore(pool).replay(Chosen(), after=0, limit=9) == [ids[4]]


def command(dsn: str, *arguments: str, **environ: str) -> tuple[int, str]:
    result = CliRunner().invoke(
        app, ["webhook", *arguments], env={**({"DATABASE_URL": dsn} if dsn else {}), **environ}
    )
    return result.exit_code, result.output


async def test_the_commands_list_show_and_replay(
    dsn: str, connection: Connection, ids: list[int]
) -> None:
    code, text = await asyncio.to_thread(command, dsn, "list", "--since", "150m", "--json")
    assert (code, [row["id"] for row in json.loads(text)]) == (0, ids[:2:-1])
    code, text = await asyncio.to_thread(command, dsn, "show", str(ids[0]), "--json")
    assert (code, "body" in json.loads(text), json.loads(text)["bytes"]) == (0, False, 8)
    code, text = await asyncio.to_thread(command, dsn, "show", str(ids[0]), "--body")
    assert '{"n": 0}' in text
    assert (await asyncio.to_thread(command, dsn, "show", "999999"))[0] == 1
    assert (await asyncio.to_thread(command, dsn, "replay"))[0] == 2
    assert (await asyncio.to_thread(command, dsn, "replay", "--since", "soon"))[0] == 2
    code, text = await asyncio.to_thread(command, dsn, "replay", "--error", "KeyError")
    assert (code, text) == (0, "1 webhook due again\n")
    assert await due(connection) == [ids[1]]
    code, text = await asyncio.to_thread(command, dsn, "replay", "--id", str(ids[3]), "--json")
    assert json.loads(text) == {"replayed": 1}


async def test_a_signed_file_is_what_meta_would_have_sent(tmp_path: Path) -> None:
    file = tmp_path / "body.json"
    await asyncio.to_thread(file.write_bytes, b'{"object": "whatsapp_business_account"}')
    secret = {"WHATSAPP_APP_SECRET": "first,second"}
    genuine = sign("first", b'{"object": "whatsapp_business_account"}')
    code, text = await asyncio.to_thread(command, "", "sign", str(file), **secret)
    assert (code, text) == (0, f"X-Hub-Signature-256: {genuine}\n")
    url = "http://127.0.0.1:8080/webhooks/whatsapp"
    code, text = await asyncio.to_thread(command, "", "sign", str(file), "--curl", url, **secret)
    assert shlex.split(text)[:3] == ["curl", "--data-binary", f"@{file}"]
    assert f"X-Hub-Signature-256: {genuine}" in shlex.split(text)
    code, text = await asyncio.to_thread(command, "", "sign", str(file))
    assert (code, "WHATSAPP_APP_SECRET" in text) == (2, True)
