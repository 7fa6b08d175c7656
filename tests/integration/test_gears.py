"""No committed row stays unfound for more than a second, whatever becomes of whoever kept the inserts silent."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

import pytest

from tests.daemons import (
    Connection,
    Daemon,
    connected,
    enqueue,
    feeding,
    frozen,
    patrolled,
    patroller,
    running,
    unpatrolled,
)
from tests.support import eventually
from waemitter.runtime import gears as gears_module
from waemitter.runtime.due_loop import Claim
from waemitter.runtime.gears import Gears
from waemitter.runtime.supervise import Stop

SOON = 1.0
"""Seconds from a row's commit within which some daemon claims it."""


async def is_found(row: int, *daemons: Daemon, within: float = SOON) -> None:
    await eventually(lambda: any(row in daemon.found for daemon in daemons), within=within)


async def resting(*daemons: Daemon) -> None:
    await eventually(lambda: all(daemon.at_rest for daemon in daemons))


@asynccontextmanager
async def silent_row(dsn: str, connection: Connection) -> AsyncIterator[int]:
    """A row that was inserted during a patrol, and is not committed before the block ends."""
    async with connected(dsn) as writer, writer.transaction():
        row = await enqueue(writer)
        assert await patrolled(connection), "nobody patrols: the insert was not silent"
        yield row


async def patrol_of(daemon: Daemon, connection: Connection) -> None:
    await eventually(lambda: daemon.diary.gears[-1:] == ["patrol"])
    assert await patrolled(connection)


async def insert_in_bursts(dsn: str, committed: dict[int, float], seed: int) -> None:
    rng = random.Random(seed)

    async def inserter(until: float, rng: random.Random) -> None:
        async with connected(dsn) as connection:
            while time.monotonic() < until:
                async with connection.transaction():
                    row = await enqueue(connection)
                    if (hold := rng.random() ** 4 * 0.6) > 0.01:
                        await asyncio.sleep(hold)
                committed[row] = time.monotonic()
                await asyncio.sleep(rng.random() ** 3 * 0.2)

    for _ in range(6):
        until = time.monotonic() + 0.4 + rng.random() * 0.8
        async with asyncio.TaskGroup() as group:
            for _ in range(rng.choice((1, 20, 20))):
                group.create_task(inserter(until, random.Random(rng.random())))
        await asyncio.sleep(rng.random())  # silence, for the gears to change


async def test_two_daemons_find_every_row_soon_however_its_transaction_is_held_open(dsn):
    committed: dict[int, float] = {}
    async with running(dsn) as one, running(dsn) as other:
        await resting(one, other)
        await insert_in_bursts(dsn, committed, seed=3)
        await eventually(lambda: committed.keys() <= one.found.keys() | other.found.keys())
        await resting(one, other)
    found = one.found | other.found
    late = {row: found[row] - at for row, at in committed.items() if found[row] - at > SOON}
    assert not late
    assert len(committed) > 200
    assert {"patrol", "bell"} == {*one.diary.gears, *other.diary.gears}
    assert len(one.diary.gears) + len(other.diary.gears) >= 4
    assert not one.found.keys() & other.found.keys()


async def come_to_rest_at_once(self: Gears, stop: Stop) -> None:
    del self, stop


@pytest.mark.parametrize("settles", [True, False])
async def test_a_silent_insert_that_commits_after_the_patrol_is_lost_without_the_horizon(
    dsn, connection, monkeypatch, settles
):
    if not settles:
        monkeypatch.setattr(Gears, "_settle", come_to_rest_at_once)
    async with running(dsn) as daemon:
        async with AsyncExitStack() as open_transaction:
            async with feeding(dsn):
                await patrol_of(daemon, connection)
                silent = silent_row(dsn, connection)
                row = await open_transaction.enter_async_context(silent)
            await eventually(lambda: daemon.diary.gears[-1] == "bell")
            await eventually(lambda: daemon.at_rest is not settles)
        if settles:
            await is_found(row, daemon)
        else:
            with pytest.raises(AssertionError, match="not within"):
                await is_found(row, daemon, within=2 * SOON)


@pytest.mark.parametrize("successor_is_there_already", [True, False])
async def test_a_daemon_killed_on_patrol_leaves_no_silent_row_behind(
    dsn, connection, successor_is_there_already
):
    async with patroller(dsn) as victim, AsyncExitStack() as started:
        start = partial(started.enter_async_context, running(dsn))
        early = await start() if successor_is_there_already else None
        async with silent_row(dsn, connection) as row:
            victim.kill()
            assert await victim.wait() == -9
            await eventually(lambda: unpatrolled(connection))
            daemon = early or await start()
            await eventually(lambda: settling(daemon))
        await is_found(row, daemon)
        await resting(daemon)


def settling(daemon: Daemon) -> bool:
    return any("older_writers" in statement for statement in daemon.statements)


@pytest.mark.parametrize("helper_is_there_already", [True, False])
async def test_a_daemon_frozen_on_patrol_is_stood_in_for(dsn, connection, helper_is_there_already):
    async with patroller(dsn) as victim, AsyncExitStack() as started:
        start = partial(started.enter_async_context, running(dsn))
        early = await start() if helper_is_there_already else None
        async with frozen(victim.pid):
            daemon = early or await start()
            await eventually(lambda: daemon.claims)
            for _ in range(4):
                row = await enqueue(connection)
                assert await patrolled(connection)
                await is_found(row, daemon)


async def test_a_daemon_that_freezes_as_soon_as_it_has_the_lock_is_stood_in_for(dsn, connection):
    async with running(dsn) as daemon, connected(dsn) as rival:
        await resting(daemon)
        assert await rival.fetchval(gears_module.START_PATROL)  # and never a word more
        row = await enqueue(connection)
        assert await patrolled(connection)
        await is_found(row, daemon)


async def test_a_saturated_patroller_calls_the_others_for_help(dsn, connection, monkeypatch):
    monkeypatch.setattr(gears_module, "LOOK_EVERY", 3600.0)  # the call alone is to be heard
    async with running(dsn) as helper, running(dsn) as saturated, asyncio.TaskGroup() as group:
        await eventually(lambda: helper.doorbell.connected and saturated.doorbell.connected)
        monkeypatch.setattr(saturated, "claim", no_hand_free(saturated))
        done = asyncio.Event()

        async def claim_full() -> None:
            while not done.is_set():
                saturated.gears.claimed(100, saturated=True)
                await asyncio.sleep(0.02)

        group.create_task(claim_full())
        await patrol_of(saturated, connection)
        row = await enqueue(connection)
        assert await patrolled(connection)
        await is_found(row, helper)
        assert row not in saturated.found
        calls = [s for s in saturated.statements if s == gears_module.NOTIFY]
        assert calls
        done.set()


def no_hand_free(daemon: Daemon) -> Callable[[int], Awaitable[Claim[int]]]:
    async def claim(limit: int) -> Claim[int]:
        del limit
        await daemon.stop.requested.wait()
        return Claim()

    return claim


async def test_a_patroller_whose_backend_is_killed_misses_nothing(dsn, connection):
    async with running(dsn) as daemon:
        async with feeding(dsn):
            await patrol_of(daemon, connection)
            async with silent_row(dsn, connection) as row:
                assert await connection.fetchval("select pg_terminate_backend($1)", daemon.pid)
                await eventually(lambda: daemon.diary.losses)
        await is_found(row, daemon)
        await resting(daemon)
        assert daemon.diary.connects == [False, True]
        row = await enqueue(connection)
        await is_found(row, daemon)


async def test_a_patroller_whose_backend_freezes_finds_the_rows_that_it_silences(dsn, connection):
    async with running(dsn, probe_every=60.0, probe_timeout=2.0) as daemon:
        async with AsyncExitStack() as thaw:
            async with feeding(dsn):
                await patrol_of(daemon, connection)
                await thaw.enter_async_context(frozen(daemon.pid))
            while not daemon.diary.losses or not daemon.doorbell.connected:
                row = await enqueue(connection)  # before it knows, and with a new connection
                assert await patrolled(connection)
                await is_found(row, daemon)
        await resting(daemon)


async def test_a_restart_of_postgres_is_survived_in_either_gear(own_postgres):
    dsn = own_postgres.dsn("waemitter")
    async with running(dsn) as daemon:
        await resting(daemon)
        await asyncio.to_thread(own_postgres.restart, "immediate")
        async with connected(dsn) as connection:
            row = await enqueue(connection)
            await is_found(row, daemon, within=3 * SOON)  # the loop itself backs off up to 2 s
            await eventually(lambda: daemon.doorbell.connected)
            async with feeding(dsn):
                await patrol_of(daemon, connection)
                await asyncio.to_thread(own_postgres.restart, "fast")
        await eventually(lambda: len(daemon.diary.connects) == 3)
        async with connected(dsn) as connection:
            row = await enqueue(connection)
            await is_found(row, daemon, within=3 * SOON)
            await resting(daemon)
            missed = await connection.fetchval(
                "select count(*) from waemitter.outbox_messages where status = 'queued'"
            )
        assert missed == 0


@pytest.mark.parametrize(
    "unrelated",
    [
        None,
        "create table somebody_elses (id bigint)",
        "select count(*) from waemitter.outbox_messages",
    ],
)
async def test_idle_costs_less_than_a_statement_a_second(dsn, connection, unrelated):
    async with AsyncExitStack() as open_transaction, running(dsn) as one, running(dsn) as other:
        if unrelated:
            bystander = await open_transaction.enter_async_context(connected(dsn))
            await open_transaction.enter_async_context(bystander.transaction())
            await bystander.execute(unrelated)
        async with feeding(dsn):
            await eventually(lambda: patrolled(connection))
        await resting(one, other)
        seconds = 2.0
        before = spent(one, other)
        await asyncio.sleep(seconds)
        assert spent(one, other) - before <= 2 * seconds
        assert one.at_rest
        assert other.at_rest
        row = await enqueue(connection)
        await is_found(row, one, other)


def spent(*daemons: Daemon) -> int:
    return sum(len(daemon.statements) + daemon.claims for daemon in daemons)
