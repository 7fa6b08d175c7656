"""Small daemons over the real outbox: the doorbell, the gears and the loop, with nothing to send.

Run as a program (`python -m tests.daemons DSN`) it is a daemon under load that has no hand free: it
patrols for ever, claims nothing, and can be frozen or killed by its process id.
"""

from __future__ import annotations

import asyncio
import datetime
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, Final, TypeAlias

import asyncpg
import psutil

from tests.support import eventually
from waemitter.db.pool import connect_listener, open_pool
from waemitter.outbox.store import OutboxStore
from waemitter.runtime.doorbell import BROKEN, Bell, Connect, Doorbell
from waemitter.runtime.due_loop import Claim, DueLoop, Fixed
from waemitter.runtime.gears import GEARS, Gears
from waemitter.runtime.supervise import Stop, supervise

OUTBOX: Final = "waemitter_outbox"

ENQUEUE: Final = """
    insert into waemitter.outbox_messages (recipient, message_type, payload, ordering_key)
    select '+14155550123', 'text', '{}', '' from generate_series(1, $1::integer) returning id
"""

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"


class Diary:
    """What doorbell and gears told."""

    def __init__(self) -> None:
        self.connects: list[bool] = []
        self.losses: list[str] = []
        self.gears: list[str] = []

    def listener_connected(self, *, reconnect: bool) -> None:
        self.connects.append(reconnect)

    def listener_lost(self, *, error: str) -> None:
        self.losses.append(error)

    def gear_changed(self, *, gear: str) -> None:
        self.gears.append(gear)


class Daemon:
    """Finds rows: `found` holds when each was first claimed, by the monotonic clock."""

    def __init__(
        self,
        pool: asyncpg.Pool[asyncpg.Record],
        dsn: str,
        *,
        connect: Connect | None = None,
        probe_every: float = 10.0,
        probe_timeout: float = 5.0,
        sweep_interval: float = 60.0,
    ) -> None:
        self.diary = Diary()
        self.statements: list[str] = []
        self.found: dict[int, float] = {}
        self.claims = 0
        self.stop = Stop(grace=10)
        self._dsn = dsn
        self._store = OutboxStore(pool)
        self.doorbell = Doorbell(
            connect or self._connect,
            channels=(OUTBOX, GEARS),
            observer=self.diary,
            probe_every=probe_every,
            probe_timeout=probe_timeout,
        )
        self.gears = Gears(self.doorbell, channel=OUTBOX, observer=self.diary, clock=time.monotonic)
        self._loop: DueLoop[int] = DueLoop(
            self,
            self.doorbell.bell(OUTBOX),
            capacity=Fixed(500),
            batch_size=500,
            sweep_interval=sweep_interval,
            jitter=lambda: 1.0,
        )

    async def run(self) -> None:
        services = {
            "doorbell": self.doorbell.run,
            "gears": self.gears.run,
            "loop": self._loop.run,
        }
        assert await supervise(services, self.stop)

    async def _connect(self) -> Connection:
        connection = await connect_listener(self._dsn)
        connection.add_query_logger(lambda record: self.statements.append(record.query))
        return connection

    @property
    def at_rest(self) -> bool:
        """Whether it relies on the bell alone."""
        return self.doorbell.connected and not self.gears._awake.is_set()

    @property
    def pid(self) -> int:
        """Of the server's process behind the LISTEN connection."""
        assert self.doorbell._pid is not None
        return self.doorbell._pid

    async def claim(self, limit: int) -> Claim[int]:
        self.claims += 1
        claimed = await self._store.claim(
            "default",
            limit=limit,
            lease=datetime.timedelta(hours=1),
            horizon=datetime.timedelta(seconds=0.2),
            grace=datetime.timedelta(hours=1),
            policy="hold",
            retries=5,
        )
        now = time.monotonic()
        rows = [attempt.id for attempt in claimed.attempts]
        self.found |= dict.fromkeys(rows, now)
        self.gears.claimed(len(rows), saturated=False)
        next_due = None if claimed.next_due is None else claimed.next_due - claimed.clock
        not_before = 0.0 if claimed.not_before is None else claimed.not_before - claimed.clock
        return Claim(rows, next_due, not_before)

    async def work(self, row: int) -> None:
        """A row is only found, and leased for longer than any test."""

    async def release(self, rows: Sequence[int]) -> None: ...


@asynccontextmanager
async def running(dsn: str, **options: float | Connect) -> AsyncIterator[Daemon]:
    """A daemon in this process; the channel has no limit of its own."""
    async with open_pool(dsn, size=2) as pool:
        await pool.execute(
            "update waemitter.channels set messages_per_second = 0, pair_seconds = 0"
        )
        async with asyncio.TaskGroup() as group:
            daemon = Daemon(pool, dsn, **options)  # type: ignore[arg-type]  # each has its own
            group.create_task(daemon.run())
            yield daemon
            daemon.stop.request()


@asynccontextmanager
async def patroller(dsn: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """A daemon in a process of its own, that patrols and claims nothing; killed at the end."""
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", __name__, dsn)
    try:
        async with connected(dsn) as admin:
            await eventually(lambda: patrolled(admin), within=20)
        yield process
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


@asynccontextmanager
async def connected(dsn: str) -> AsyncIterator[Connection]:
    connection = await asyncpg.connect(dsn)
    try:
        yield connection
    finally:
        connection.terminate()


@asynccontextmanager
async def feeding(dsn: str) -> AsyncIterator[None]:
    """Insert more rows in a second than the bell serves, each in its own transaction; while Postgres is there."""
    fed = asyncio.Event()

    async def feed() -> None:
        with suppress(*BROKEN):
            async with connected(dsn) as connection:
                while not fed.is_set():
                    await connection.fetch(ENQUEUE, 1)
                    await asyncio.sleep(0.002)

    async with asyncio.TaskGroup() as group:
        group.create_task(feed())
        try:
            yield
        finally:
            fed.set()


async def enqueue(connection: Connection) -> int:
    return int(await connection.fetchval(ENQUEUE, 1))


async def patrolled(connection: Connection) -> Any:
    return await connection.fetchval("select waemitter.patrolled()")


async def unpatrolled(connection: Connection) -> Any:
    return not await patrolled(connection)


@asynccontextmanager
async def frozen(pid: int) -> AsyncIterator[None]:
    """A process that lives, holds what it holds, and does nothing."""
    os.kill(pid, signal.SIGSTOP)
    try:
        await eventually(lambda: psutil.Process(pid).status() == psutil.STATUS_STOPPED)
        yield
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


async def _overloaded(dsn: str) -> None:
    diary = Diary()
    doorbell = Doorbell(lambda: connect_listener(dsn), channels=(OUTBOX, GEARS), observer=diary)
    gears = Gears(doorbell, channel=OUTBOX, observer=diary, clock=time.monotonic)
    ear: Bell = doorbell.bell(OUTBOX)

    async def claim_nothing(stop: Stop) -> None:
        while not stop.requested.is_set():
            gears.claimed(100, saturated=False)
            await ear.heard(0.05)

    services = {"doorbell": doorbell.run, "gears": gears.run, "load": claim_nothing}
    await supervise(services, Stop(grace=1))


if __name__ == "__main__":
    asyncio.run(_overloaded(sys.argv[1]))
