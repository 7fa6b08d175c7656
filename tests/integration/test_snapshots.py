"""Transactions that others leave open are noticed, told of with growing patience, and forgotten when they end."""

from __future__ import annotations

import asyncio
import time

import asyncpg

from tests.observing import observing
from tests.support import eventually
from waemitter.db.pool import open_pool
from waemitter.db.snapshots import Held, SnapshotWatch
from waemitter.runtime.supervise import Stop


async def test_a_session_that_sits_in_its_transaction_is_named_until_it_ends(dsn: str) -> None:
    idle = await asyncpg.connect(dsn, server_settings={"application_name": "a forgotten shell"})
    writer = await asyncpg.connect(dsn)
    stop = Stop(grace=1)
    with observing() as observed:
        async with open_pool(dsn, size=1) as pool, asyncio.TaskGroup() as group:
            watch = SnapshotWatch(
                pool, observer=observed.events, clock=time.monotonic, look_every=0.01, long=0.02
            )
            group.create_task(watch.run(stop))
            transaction = idle.transaction(isolation="repeatable_read")
            await transaction.start()
            await idle.execute("select 1")

            await eventually(lambda: len(observed.lines("SNAPSHOT_HELD")) > 1)
            for _ in range(3):
                await writer.execute("select pg_current_xact_id()")
            await eventually(lambda: observed.lines("SNAPSHOT_HELD")[-1]["transactions"] >= 3)
            assert (observed.value("oldest_snapshot_seconds") or 0) >= 0.02
            await transaction.rollback()
            await eventually(lambda: observed.lines("SNAPSHOT_RELEASED"))
            stop.request()
    first = observed.lines("SNAPSHOT_HELD")[0]
    (released,) = observed.lines("SNAPSHOT_RELEASED")
    assert first["level"] == "warning"
    assert first["holder"].endswith("(a forgotten shell)")
    assert released["holder"] == first["holder"]
    await idle.close()
    await writer.close()


def test_it_is_told_each_time_that_its_age_has_doubled_and_short_ones_never() -> None:
    now = 0.0

    with observing() as observed:
        watch = SnapshotWatch(None, observer=observed.events, clock=lambda: now)  # type: ignore[arg-type] # not asked
        for second in range(600):
            now = float(second)
            watch.seen(Held("session 7", second * 100, "731"))
        told = [line["seconds"] for line in observed.lines("SNAPSHOT_HELD")]
        for second in range(600, 700):
            now = float(second)
            watch.seen(Held("session 8", 5, str(second)))
        watch.seen(None)

    assert told == [60, 120, 240, 480]
    assert [line["seconds"] for line in observed.lines("SNAPSHOT_RELEASED")] == [600]
    assert observed.value("oldest_snapshot_seconds") == 0
