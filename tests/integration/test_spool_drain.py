"""From the spool into the table: in order and once, wherever the drainer is cut off."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest
from typing_extensions import override

from tests.observing import Observed, observing
from tests.support import eventually
from waemitter.db.pool import open_pool
from waemitter.errors import DatabaseUnreachable
from waemitter.inbox.journal import drainer as drainer_module
from waemitter.inbox.journal.drainer import Drainer
from waemitter.inbox.journal.records import Entry, Spooled, encode
from waemitter.inbox.journal.spool import Spool
from waemitter.inbox.journal.store import JournalStore
from waemitter.runtime.supervise import Stop

BODIES = "select body from waemitter.webhook_logs order by id"
FILES = "select count(*) from waemitter.webhook_spools"


def spooled(body: bytes, *, after: int | None = None, headers: str = "{}") -> Spooled:
    return Spooled(Entry("whatsapp", body, headers), 1795300000.25, after)


def numbered(count: int) -> list[bytes]:
    return [b"%d" % n for n in range(count)]


def files(directory: Path) -> list[Path]:
    return sorted(directory.iterdir())


async def spool_of(directory: Path, *records: Spooled) -> Spool:
    spool = Spool(directory, most_bytes=1 << 30)
    await spool.open()
    if records:
        await spool.append([encode(record) for record in records])
    return spool


@asynccontextmanager
async def draining(spool: Spool, store: JournalStore) -> AsyncIterator[Observed]:
    """A drainer, until the spool is empty."""
    stop = Stop(grace=5)
    with observing() as observed:
        drainer = Drainer(spool, store, written=lambda: None, events=observed.events, retry=0.01)
        async with asyncio.TaskGroup() as group:
            group.create_task(drainer.run(stop))
            yield observed
            await eventually(lambda: spool.empty)
            stop.request()


async def stored(connection: asyncpg.Connection[asyncpg.Record]) -> list[bytes]:
    return [row["body"] for row in await connection.fetch(BODIES)]


class Flaky(JournalStore):
    """Cut off again and again: before the commit, or after it and before its answer."""

    def __init__(self, pool: asyncpg.Pool[asyncpg.Record]) -> None:
        super().__init__(pool)
        self.calls = 0

    @override
    async def drain(self, name: str, records: Sequence[Spooled], *, start: int, end: int) -> None:
        self.calls += 1
        if self.calls % 3 == 1:
            raise DatabaseUnreachable("before")
        await super().drain(name, records, start=start, end=end)
        if self.calls % 3 == 2:
            raise DatabaseUnreachable("after")


async def test_all_that_was_spooled_is_journalled_once_and_in_order_however_often_it_is_cut_off(
    dsn: str,
    connection: asyncpg.Connection[asyncpg.Record],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(drainer_module, "BATCH", 3)
    spool = await spool_of(tmp_path, *map(spooled, numbered(20)))
    async with open_pool(dsn, size=2) as pool:
        store = Flaky(pool)
        async with draining(spool, store):
            pass
    assert store.calls > 10
    assert await stored(connection) == numbered(20)
    assert await connection.fetchval(FILES) == 0
    assert files(tmp_path) == []


async def test_a_daemon_that_dies_while_it_drains_leaves_the_rest_to_the_next_one(
    dsn: str,
    connection: asyncpg.Connection[asyncpg.Record],
    tmp_path: Path,
) -> None:
    spool = await spool_of(tmp_path, *map(spooled, numbered(5)))
    async with open_pool(dsn, size=2) as pool:
        store = JournalStore(pool)
        oldest = await spool.oldest()
        assert oldest is not None
        segment, reading = oldest
        some = reading.found[:2]
        await store.drain(segment.name, [each.record for each in some], start=0, end=some[-1].end)
        spool.close()  # as the kernel does it
        heir = await spool_of(tmp_path)
        async with draining(heir, store) as observed:
            pass
    assert await stored(connection) == numbered(5)
    assert [line["count"] for line in observed.lines("WEBHOOK_SPOOL_DRAINED")] == [3]


async def test_who_drains_the_same_place_a_second_time_inserts_nothing(
    dsn: str, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    async with open_pool(dsn, size=4) as pool:
        store = JournalStore(pool)
        await asyncio.gather(
            *(store.drain("a.spool", [spooled(b"1")], start=0, end=9) for _ in range(4))
        )
        await store.drain("a.spool", [spooled(b"2")], start=9, end=18)
        await store.drain("a.spool", [spooled(b"1")], start=0, end=9)
        assert await store.drained("a.spool") == 18
    assert await stored(connection) == [b"1", b"2"]


async def test_a_body_whose_commit_was_never_answered_is_there_once_whether_it_was_made_or_not(
    dsn: str, connection: asyncpg.Connection[asyncpg.Record], tmp_path: Path
) -> None:
    async with open_pool(dsn, size=2) as pool:
        store = JournalStore(pool)
        (newest,) = await store.append([Entry("whatsapp", b"twin", '{"x-correlation-id":"1"}')])
        made = Entry("whatsapp", b"twin", '{"x-correlation-id":"2"}')
        await store.append([made])
        spool = await spool_of(
            tmp_path,
            Spooled(made, 1795300000.0, newest),
            spooled(b"twin", after=newest, headers='{"x-correlation-id":"1"}'),
            spooled(b"not made", after=newest),
        )
        async with draining(spool, store):
            pass
    assert await stored(connection) == [b"twin", b"twin", b"twin", b"not made"]


async def test_what_cannot_be_read_is_put_aside_and_the_rest_is_journalled(
    dsn: str, connection: asyncpg.Connection[asyncpg.Record], tmp_path: Path
) -> None:
    spool = await spool_of(tmp_path, *map(spooled, numbered(3)))
    spool.close()
    [path] = files(tmp_path)
    rotten = bytearray(path.read_bytes())
    rotten[len(encode(spooled(b"0"))) + 20] ^= 1
    path.write_bytes(rotten)
    async with open_pool(dsn, size=2) as pool:
        heir = await spool_of(tmp_path)
        async with draining(heir, JournalStore(pool)) as observed:
            pass
    assert await stored(connection) == [b"0", b"2"]
    (line,) = observed.lines("WEBHOOK_SPOOL_DAMAGED")
    assert (line["bytes"], line["refused"]) == (len(encode(spooled(b"1"))), 0)
    assert [each.name for each in files(tmp_path)] == [path.with_suffix(".damaged").name]


async def test_what_the_database_refuses_harms_none_of_its_neighbours(
    dsn: str, connection: asyncpg.Connection[asyncpg.Record], tmp_path: Path
) -> None:
    bad = spooled(b"1", headers="no json")
    spool = await spool_of(tmp_path, spooled(b"0"), bad, spooled(b"2"))
    async with open_pool(dsn, size=2) as pool, draining(spool, JournalStore(pool)) as observed:
        pass
    assert await stored(connection) == [b"0", b"2"]
    (line,) = observed.lines("WEBHOOK_SPOOL_DAMAGED")
    assert line["refused"] == 1
    assert [each.suffix for each in files(tmp_path)] == [".damaged"]
