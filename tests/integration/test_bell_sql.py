"""The SQL that the two gears stand on: who holds the lock, whom it silences, and who may yet commit silently."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.daemons import OUTBOX, connected, enqueue, patrolled, running
from tests.support import chosen_postgres, copied, eventually, scratch
from waemitter.runtime.gears import END_PATROL, GEARS, HORIZON, OLDER_WRITERS, START_PATROL


async def test_older_writers_are_those_who_may_have_inserted_silently(cluster: Path):
    with (
        scratch() as directory,
        chosen_postgres(copied(cluster, directory), max_prepared_transactions="2") as server,
    ):
        dsn = server.dsn("waemitter")
        async with connected(dsn) as listener, connected(dsn) as writer:

            async def horizon() -> str:
                return str(await listener.fetchval(HORIZON))

            async def older_writers(since: str) -> bool:
                return bool(await listener.fetchval(OLDER_WRITERS, since))

            await writer.execute("begin; create table other (id bigint)")
            assert not await older_writers(await horizon())
            await writer.execute("select count(*) from waemitter.outbox_messages")
            assert not await older_writers(await horizon())
            await enqueue(writer)
            assert await older_writers(await horizon())
            await writer.execute("rollback")
            assert not await older_writers(await horizon())

            before = await horizon()
            await writer.execute("begin")
            await enqueue(writer)
            assert not await older_writers(before)
            await writer.execute("rollback; begin; savepoint within")
            # Silent, as otherwise it could not be prepared at all.
            assert await listener.fetchval(START_PATROL)
            await enqueue(writer)
            await listener.execute(END_PATROL)
            assert await older_writers(await horizon())
            await writer.execute("release savepoint within; prepare transaction 'twophase'")
            assert await older_writers(await horizon())
            await writer.execute("commit prepared 'twophase'")
            assert not await older_writers(await horizon())


async def test_the_lock_is_taken_announced_and_freed(dsn, connection):
    async with connected(dsn) as patrolling, connected(dsn) as rival, connected(dsn) as watcher:
        told: asyncio.Queue[str] = asyncio.Queue()
        for channel in (GEARS, OUTBOX):
            await watcher.add_listener(channel, lambda *n: told.put_nowait(n[2]))
        assert not await patrolled(connection)
        assert await patrolling.fetchval(START_PATROL)
        assert await told.get() == GEARS
        assert await patrolled(connection)
        assert not await rival.fetchval(START_PATROL)

        await rival.execute(END_PATROL)  # of what it does not hold
        assert await patrolled(connection)
        await enqueue(connection)
        assert await patrolling.fetchval(START_PATROL)  # once more: it holds it twice
        assert await told.get() == GEARS
        await patrolling.execute(END_PATROL)
        assert not await patrolled(connection)
        await enqueue(connection)
        assert await told.get() == OUTBOX
        assert told.empty()


async def test_inserts_due_later_than_two_sweeps_ring_no_bell(dsn, connection):
    async with connected(dsn) as watcher:
        told: asyncio.Queue[str] = asyncio.Queue()
        await watcher.add_listener(OUTBOX, lambda *n: told.put_nowait(n[2]))
        later = (
            "insert into waemitter.outbox_messages (recipient, message_type, payload, available_at)"
        )
        for due in ("1 hour", "1 minute"):
            await connection.execute(
                later + " values ('1', 'text', '{}', now() + $1::text::interval)", due
            )
        await asyncio.wait_for(told.get(), 5)
        await watcher.fetchval("select 1")
        assert told.empty()


async def test_a_retry_by_hand_rings_the_bell_and_the_claim_does_not(dsn, connection):
    async with running(dsn) as daemon, connected(dsn) as watcher:
        told: asyncio.Queue[str] = asyncio.Queue()
        await watcher.add_listener(OUTBOX, lambda *n: told.put_nowait(n[2]))
        row = await enqueue(connection)
        await eventually(lambda: row in daemon.found)
        await asyncio.wait_for(told.get(), 5)
        await watcher.fetchval("select 1")
        assert told.empty()
        daemon.found.clear()
        await connection.execute(
            "update waemitter.outbox_messages set status = 'queued', available_at = now(),"
            " claimed_at = null, token = null where id = $1",
            row,
        )
        await eventually(lambda: row in daemon.found)
        await asyncio.wait_for(told.get(), 5)
