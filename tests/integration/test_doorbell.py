"""The LISTEN connection: what it hears, and how it notices that it hears no more."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import pairwise
from typing import Any

import asyncpg
import pytest

from tests.daemons import ENQUEUE, Connection, Diary, connected, frozen, running
from tests.support import eventually
from waemitter.db.pool import connect_listener
from waemitter.errors import DatabaseUnreachable
from waemitter.runtime.doorbell import Bell, Connect, Doorbell, NotListening
from waemitter.runtime.supervise import Stop, supervise

WORK = "waemitter_outbox"
OTHER = "waemitter_inbox"
RACES = 25


class Listener:
    """A doorbell that runs, and everything it tells."""

    def __init__(self, connect: Connect, *, probe_every: float, probe_timeout: float) -> None:
        self.diary = Diary()
        self.told: list[tuple[str, bool]] = []
        self.stop = Stop(grace=5)
        self.doorbell = Doorbell(
            connect,
            channels=(WORK, OTHER),
            observer=self.diary,
            probe_every=probe_every,
            probe_timeout=probe_timeout,
        )
        self.doorbell.watch(lambda channel, own: self.told.append((channel, own)))
        self.work = self.doorbell.bell(WORK)
        self.other = self.doorbell.bell(OTHER)


@asynccontextmanager
async def listening(
    connect: Connect | str, *, probe_every: float = 10.0, probe_timeout: float = 5.0
) -> AsyncIterator[Listener]:
    dsn = connect if isinstance(connect, str) else ""
    connector = (lambda: connect_listener(dsn)) if isinstance(connect, str) else connect
    listener = Listener(connector, probe_every=probe_every, probe_timeout=probe_timeout)
    async with asyncio.TaskGroup() as group:
        group.create_task(supervise({"doorbell": listener.doorbell.run}, listener.stop))
        yield listener
        listener.stop.request()


async def ready(listener: Listener) -> Listener:
    """Connected, and what rang at the connect is over."""
    await eventually(lambda: listener.doorbell.connected)
    clear(listener)
    return listener


def clear(listener: Listener) -> None:
    listener.work.clear()
    listener.other.clear()
    listener.told.clear()


async def notify(connection: Connection, channel: str) -> None:
    await connection.execute("select pg_notify($1, '')", channel)


async def test_a_notification_rings_the_bells_of_its_channel_alone(dsn, connection):
    async with listening(dsn) as listener:
        await ready(listener)
        second = listener.doorbell.bell(WORK)
        await notify(connection, WORK)
        assert await listener.work.heard(5)
        assert await second.heard(5)
        assert not await listener.other.heard(0)
        assert listener.told == [(WORK, False)]


async def test_rings_coalesce_until_they_are_heard_or_cleared():
    bell = Bell()
    bell.ring()
    bell.ring()
    assert await bell.heard(0)
    assert not await bell.heard(0)
    bell.ring()
    bell.clear()
    assert not await bell.heard(0)


async def test_nobody_can_wait_for_a_channel_that_is_not_listened_to(dsn):
    async with listening(dsn) as listener:
        with pytest.raises(KeyError):
            listener.doorbell.bell("somebody_elses")


async def test_its_own_notification_is_told_as_its_own(dsn):
    async with listening(dsn) as listener:
        await ready(listener)
        await listener.doorbell.call("select pg_notify($1, '')", WORK)
        assert await listener.work.heard(5)
        assert listener.told == [(WORK, True)]


async def test_every_bell_rings_on_a_connect_and_only_after_it_listens(dsn, connection):
    async def connect_slowly() -> Connection:
        made = await connect_listener(dsn)
        await notify(connection, WORK)  # nobody hears this one
        return made

    async with listening(connect_slowly) as listener:
        assert await listener.work.heard(5)
        assert await listener.other.heard(5)
        assert listener.told == [("", True)]
        channels = await listener.doorbell.call(
            "select array_agg(c) from pg_listening_channels() c"
        )
        assert {*channels} == {WORK, OTHER}
        assert listener.diary.connects == [False]


async def test_a_killed_backend_is_replaced_and_every_bell_rings(dsn, connection):
    async with listening(dsn) as listener:
        await ready(listener)
        killed = listener.doorbell._pid
        assert await connection.fetchval("select pg_terminate_backend($1)", killed)
        await eventually(lambda: listener.diary.connects == [False, True])
        assert listener.doorbell._pid != killed
        assert await listener.work.heard(5)
        assert await listener.other.heard(5)
        assert listener.told == [("", True), ("", True)]
        assert len(listener.diary.losses) == 1
        clear(listener)
        await notify(connection, WORK)
        assert await listener.work.heard(5)


async def test_a_frozen_backend_is_noticed_by_the_probe_and_replaced(dsn, connection):
    async with listening(dsn, probe_every=0.1, probe_timeout=0.2) as listener:
        await ready(listener)
        async with frozen(listener.doorbell._pid or 0):
            await eventually(lambda: listener.diary.connects == [False, True], within=3)
            assert listener.diary.losses == ["TimeoutError"]
            clear(listener)
            await notify(connection, WORK)
            assert await listener.work.heard(5)


async def test_a_backend_that_freezes_before_it_listens_is_given_up(dsn, connection):
    async with AsyncExitStack() as thaw:
        attempts = 0

        async def connect() -> Connection:
            nonlocal attempts
            attempts += 1
            made = await connect_listener(dsn)
            if attempts == 1:
                await thaw.enter_async_context(frozen(made.get_server_pid()))
            return made

        async with listening(connect, probe_timeout=0.2) as listener:
            await ready(listener)
            assert attempts == 2
            assert listener.diary.losses == ["TimeoutError"]
            assert listener.diary.connects == [False]
            await notify(connection, WORK)
            assert await listener.work.heard(5)


async def test_a_restart_of_postgres_is_survived(own_postgres):
    dsn = own_postgres.dsn("waemitter")
    async with listening(dsn) as listener:
        await ready(listener)
        await asyncio.to_thread(own_postgres.restart, "immediate")
        await eventually(lambda: listener.diary.connects == [False, True])
        assert await listener.work.heard(5)
        clear(listener)
        async with connected(dsn) as connection:
            await notify(connection, WORK)
        assert await listener.work.heard(5)


async def test_a_lost_notification_is_made_good_by_the_sweep(dsn, connection):
    async with running(dsn, sweep_interval=0.5) as daemon:
        await eventually(lambda: daemon.at_rest)
        heard: list[str] = []
        daemon.doorbell.watch(lambda channel, _own: heard.append(channel))
        await connection.execute("set session_replication_role = replica")
        row = await connection.fetchval(ENQUEUE, 1)
        await eventually(lambda: row in daemon.found, within=2)
        assert heard == []


async def test_a_daemon_that_cannot_listen_looks_by_itself(dsn, connection):
    async def refused() -> Connection:
        raise DatabaseUnreachable("Postgres has no connection left")

    async with running(dsn, connect=refused) as daemon:
        await eventually(lambda: len(daemon.diary.losses) > 2)
        row = await connection.fetchval(ENQUEUE, 1)
        await eventually(lambda: row in daemon.found, within=1)
        assert not daemon.doorbell.connected
        assert daemon.diary.connects == []


async def test_another_daemons_patrol_is_noticed_by_the_probe(dsn):
    async with listening(dsn, probe_every=0.05) as listener, connected(dsn) as rival:
        await ready(listener)
        assert await rival.fetchval(
            "select pg_try_advisory_lock(1463895373, 'waemitter.outbox_messages'::regclass::oid::integer)"
        )
        await eventually(lambda: ("waemitter_gears", False) in listener.told)


async def test_a_call_needs_a_connection_and_one_that_fails_ends_it_with_its_reason(dsn):
    async with listening(dsn) as listener:
        with pytest.raises(NotListening):
            await listener.doorbell.call("select 1")
        await ready(listener)
        assert await listener.doorbell.call("select $1::text", "an answer") == "an answer"
        with pytest.raises(NotListening) as gone:
            await listener.doorbell.call("select not_there()")
        assert isinstance(gone.value.__cause__, asyncpg.UndefinedFunctionError)
        await eventually(lambda: listener.diary.connects == [False, True])
        (loss,) = listener.diary.losses
        assert loss.startswith("function not_there() does not exist HINT:")


async def test_calls_of_many_take_turns(dsn):
    async with listening(dsn) as listener:
        await ready(listener)
        calls = (listener.doorbell.call("select $1::int", number) for number in range(20))
        assert await asyncio.gather(*calls) == [*range(20)]
        assert listener.diary.losses == []


async def test_it_comes_back_later_and_later_until_the_connection_proves_healthy(dsn):
    attempts: list[float] = []

    async def connect() -> Connection:
        attempts.append(time.monotonic())
        if len(attempts) <= 3:
            raise OSError("no route to host")
        return await connect_listener(dsn)

    async with listening(connect, probe_every=0.1) as listener:
        await ready(listener)
        assert listener.diary.losses == ["no route to host"] * 3
        pauses = [after - before for before, after in pairwise(attempts)]
        assert all(pause >= due for pause, due in zip(pauses, (0.05, 0.1, 0.2), strict=True))
        assert listener.doorbell._backoff == 0.4  # a connection is not yet health
        await eventually(lambda: listener.doorbell._backoff == 0.05)


@pytest.mark.parametrize("phase", ["connecting", "backing off", "listening", "answering"])
async def test_a_stop_ends_it_at_once_in_every_phase(dsn, phase):
    waiting = asyncio.Event()

    async def connect() -> Connection:
        if phase == "connecting":
            waiting.set()
            await asyncio.Event().wait()
        if phase == "backing off":
            raise OSError("no route to host")
        return await connect_listener(dsn)

    async with listening(connect) as listener, asyncio.TaskGroup() as group:
        listener.doorbell._backoff = 60.0
        if phase == "connecting":
            await asyncio.wait_for(waiting.wait(), 5)
        elif phase == "backing off":
            await eventually(lambda: listener.diary.losses)
        else:
            await ready(listener)
        if phase == "answering":
            group.create_task(cut_off(listener))
        started = time.monotonic()
    assert time.monotonic() - started < 1
    assert not listener.doorbell.connected
    assert listener.diary.losses == (["no route to host"] if phase == "backing off" else [])


async def cut_off(listener: Listener) -> None:
    listener.stop.request()
    with pytest.raises(NotListening):
        await listener.doorbell.call("select pg_sleep(60)")


async def test_a_stop_wakes_everybody_who_waits_for_a_ring(dsn):
    async with listening(dsn) as listener:
        await ready(listener)
        listener.stop.request()
        assert await listener.work.heard(5)
        assert await listener.other.heard(5)


class Tripping(asyncpg.Connection):
    """Is terminated between two steps of a call, once its statement is prepared."""

    async def _get_statement(self, query: str, *more: Any, **options: Any) -> Any:
        statement = await super()._get_statement(query, *more, **options)  # type: ignore[misc]  # the stubs leave it out
        if query == "select 'trip'":
            self.terminate()
        return statement


async def test_a_call_whose_connection_is_cut_between_two_steps_of_the_driver_is_not_listening(dsn):
    async with listening(lambda: asyncpg.connect(dsn, connection_class=Tripping)) as listener:
        await ready(listener)
        with pytest.raises(NotListening) as caught:
            await listener.doorbell.call("select 'trip'")
        assert isinstance(caught.value.__cause__, AttributeError)  # else this proves nothing
        await eventually(lambda: listener.diary.connects == [False, True])


async def test_calls_in_the_moment_of_a_stop_end_in_not_listening_and_nothing_else(dsn):
    ends: Counter[str] = Counter()

    async def call_until_it_ends(doorbell: Doorbell) -> None:
        try:
            while True:
                await doorbell.call(f"select {ends['answered']}")  # a new one each time: more steps
                ends["answered"] += 1
        except NotListening:
            ends["cut"] += 1

    for n in range(RACES):
        async with listening(dsn) as listener:
            await ready(listener)
            async with asyncio.TaskGroup() as callers:
                callers.create_task(call_until_it_ends(listener.doorbell))
                await asyncio.sleep(0.002 + 0.004 * n / RACES)
                listener.stop.request()

    assert ends["cut"] == RACES
    assert ends["answered"] > RACES
