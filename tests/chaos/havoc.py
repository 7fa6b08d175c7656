"""Carries a schedule out, and keeps what proves that each blow fell."""

from __future__ import annotations

import asyncio
import itertools
import resource
import signal
import tempfile
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Final
from urllib.parse import parse_qs, urlsplit

import aiohttp
import asyncpg
import orjson
import psutil

from tests.chaos.proxy import Ends, Proxy
from tests.chaos.schedule import Blow, Kind, Schedule
from tests.e2e.scene import Scene, kill, post, until
from tests.e2e.test_webhooks import signed
from waemitter.db.embedded import EmbeddedPostgres
from waemitter.ops.processes import Child
from waemitter.ops.stage import NUMBER_ID

RATE: Final = 60  # messages a second
POOL: Final = 3
SETTINGS: Final = {
    "WAEMITTER_CHANNEL__MESSAGES_PER_SECOND": str(RATE),
    "WAEMITTER_OUTBOX__MAX_ATTEMPTS": "50",
    "WAEMITTER_OUTBOX__UNCONFIRMED_GRACE": "4s",
    # After one 131056 the recipient's credit is spent: at Meta's six seconds a lane then outlives the run.
    "WAEMITTER_CHANNEL__PAIR_SECONDS": "1s",
    "WAEMITTER_DATABASE__POOL_SIZE": str(POOL),
}
FAULTS: Final = (
    *("--messages-per-second", "0", "--pair-seconds", "0", "--no-error-recipients"),
    *("--latency", "0.02", "--jitter", "0.1"),
    *("--drop-before", "0.02", "--hang-before", "0.01", "--html-5xx", "0.02"),
    *("--drop-after", "0.02", "--hang-after", "0.01", "--html-5xx-after", "0.01", "--cut-reply", "0.01"),
    *("--error-mix", "131016=0.03", "--error-mix", "2=0.02", "--error-mix", "131056=0.01"),
    *("--duplicate-webhooks", "0.1", "--reorder-webhooks", "0.2", "--reply-probability", "0.1"),
    *("--sent-delay", "0.1", "0.6", "--webhook-timeout", "2", "--webhook-retry-max", "2"),
)  # fmt: skip
ENQUEUE: Final = """
    insert into waemitter.outbox_messages (recipient, message_type, payload, ordering_key, priority)
    select '+1415' || (5550000 + case when n % 4 = 0 then n % (4 * $3::integer) else n end), 'text',
           jsonb_build_object('text', jsonb_build_object('body', format('Order %s is on its way', n))),
           case when n % 4 > 0 then '' end, case when n % 4 > 0 then n % 3 else 0 end
    from generate_series($1::integer, $2::integer) n
"""
"""Every fourth belongs to one of so many lanes."""
LANE: Final = 30
"""Messages of a lane, all to one recipient: fewer than its burst of 45, which a 131056 ends."""
WAITING: Final = """
    select count(*) from pg_stat_activity
    where application_name = 'waemitter' and wait_event_type = 'Lock' and datname = current_database()
"""
HEARTBEAT: Final = orjson.dumps(
    {"entry": [{"id": "1", "changes": [{"value": {"metadata": {"phone_number_id": NUMBER_ID}}}]}]}
)


class Havoc:
    """`evidence`: how often each kind was seen to have taken effect; `exits`: of daemons that were asked to end."""

    def __init__(
        self, stack: AsyncExitStack, scene: Scene, postgres: EmbeddedPostgres, schedule: Schedule
    ) -> None:
        self._stack = stack
        self._scene = scene
        self._postgres = postgres
        self._schedule = schedule
        self._daemons: list[Child] = []
        self._addresses: list[str] = []
        self._turn = itertools.count()
        self.spools: list[Path] = []
        self.evidence: Counter[Kind] = Counter()
        self.exits: list[int | None] = []
        self.enqueued = 0
        self._lanes = 1
        self.database = Proxy(self._to_postgres)
        self.webhooks = Proxy(self._to_a_daemon)
        self._blows: dict[Kind, Callable[[Blow], Awaitable[object]]] = {
            "kill": self._kill,
            "terminate": self._terminate,
            "freeze": self._freeze,
            "postgres fast": self._restart,
            "postgres immediate": self._restart,
            "database cut": lambda _: self._cut(self.database),
            "database half-open": lambda blow: self._half_open(self.database, blow),
            "webhooks cut": lambda _: self._cut(self.webhooks),
            "webhooks half-open": lambda blow: self._half_open(self.webhooks, blow),
            "no connection left": self._crowd,
            "pool exhausted": self._lock,
            "disk full": self._fill_the_disk,
        }

    async def play(self, messages: int) -> None:
        """Send `messages`, evenly over the blows."""
        self._lanes = max(1, messages // 4 // LANE)
        for proxy in (self.database, self.webhooks):
            await self._stack.enter_async_context(proxy.serving())
        await self._scene.simulate(
            *FAULTS,
            *("--seed", str(self._schedule.seed)),
            *("--webhook-url", f"http://127.0.0.1:{self.webhooks.port}/webhooks/whatsapp"),
        )
        for _ in range(self._schedule.daemons):
            spool = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="waemitter-"))
            self.spools.append(Path(spool))
        started = await asyncio.gather(*(self._start(n) for n in range(self._schedule.daemons)))
        self._daemons = [running for running, _ in started]
        self._addresses = [address for _, address in started]
        for n, blow in enumerate(self._schedule.blows, 1):
            await self._enqueue(n * messages // len(self._schedule.blows))
            self.evidence[blow.kind] += int(bool(await self._blows[blow.kind](blow)))

    async def _enqueue(self, upto: int) -> None:
        await self._scene.fetch(ENQUEUE, self.enqueued + 1, upto, self._lanes)
        self.enqueued = upto

    async def _start(self, n: int) -> tuple[Child, str]:
        return await self._scene.daemon(
            SETTINGS
            | {
                "DATABASE_URL": f"postgresql://postgres@127.0.0.1:{self.database.port}/waemitter",
                "WAEMITTER_INBOX__SPOOL_DIR": str(self.spools[n]),
            }
        )

    async def _again(self, victim: int) -> None:
        self._daemons[victim], self._addresses[victim] = await self._start(victim)

    async def _to_postgres(self) -> Ends:
        directory = parse_qs(urlsplit(self._scene.dsn).query)["host"][0]
        return await asyncio.open_unix_connection(f"{directory}/.s.PGSQL.5432")

    async def _to_a_daemon(self) -> Ends:
        """As a load balancer: the next in turn that can be connected to."""
        first = next(self._turn)
        for n in range(len(self._addresses)):
            parts = urlsplit(self._addresses[(first + n) % len(self._addresses)])
            with suppress(OSError):
                return await asyncio.open_connection(parts.hostname, parts.port)
        raise ConnectionRefusedError

    async def _kill(self, blow: Blow) -> bool:
        running = self._daemons[blow.victim]
        await kill(running)
        await self._again(blow.victim)
        return running.process.returncode == -signal.SIGKILL

    async def _terminate(self, blow: Blow) -> bool:
        running = self._daemons[blow.victim]
        self.exits.append(await running.stop())
        await self._again(blow.victim)
        return True

    async def _freeze(self, blow: Blow) -> bool:
        """For longer than its leases, every other time."""
        running = self._daemons[blow.victim]
        running.signal(signal.SIGSTOP)
        try:
            await until(lambda: _is(running, psutil.STATUS_STOPPED))
            await asyncio.sleep(blow.lasts * 2)
        finally:
            running.signal(signal.SIGCONT)
        return True

    async def _restart(self, blow: Blow) -> bool:
        before = self._postgres.postmaster_pid
        mode = "fast" if blow.kind == "postgres fast" else "immediate"
        await asyncio.to_thread(self._postgres.restart, mode)  # type: ignore[arg-type] # one of the two
        return self._postgres.postmaster_pid != before

    async def _cut(self, proxy: Proxy) -> int:
        """Once there is something to cut."""

        async def cut() -> int:
            return proxy.cut()

        return await until(cut, within=60)

    async def _half_open(self, proxy: Proxy, blow: Blow) -> int:
        """Once there is something that can fall silent."""

        async def open_ones() -> int:
            return proxy.connections

        await until(open_ones, within=60)
        return await proxy.half_open(blow.lasts)

    async def _crowd(self, blow: Blow) -> bool:
        """Whoever loses a connection now gets no other."""
        async with AsyncExitStack() as held:
            refused = False
            while not refused:
                try:
                    connection = await asyncpg.connect(self._scene.dsn)
                    held.push_async_callback(connection.close)
                except asyncpg.TooManyConnectionsError:
                    refused = True
            self.database.cut()
            await asyncio.sleep(blow.lasts)
        return refused

    async def _lock(self, blow: Blow) -> bool:
        connection = await asyncpg.connect(self._scene.dsn)
        try:
            async with connection.transaction():
                await connection.execute("lock table waemitter.outbox_messages")

                async def all_wait() -> bool:
                    # One that had nothing left to do would never come near the table.
                    await self._scene.fetch("notify waemitter_outbox")
                    # Asked elsewhere: within its transaction a backend sees the others as they first were.
                    return bool(await self._scene.value(WAITING) > 0)

                await until(all_wait)
                await asyncio.sleep(blow.lasts)
        finally:
            await connection.close()
        return True

    async def _fill_the_disk(self, _: Blow) -> bool:
        """A webhook that can be kept nowhere gets a 503; one that can, its 200."""
        processes = [psutil.Process(running.pid) for running in self._daemons]
        await asyncio.to_thread(self._postgres.stop, "immediate")
        try:
            for process in processes:
                process.rlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
            refused = await until(lambda: self._answers(503))
        finally:
            for process in processes:
                process.rlimit(
                    resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
                )
        taken = await until(lambda: self._answers(200))
        await asyncio.to_thread(self._postgres.start)
        return refused and taken

    async def _answers(self, status: int) -> bool:
        url = f"http://127.0.0.1:{self.webhooks.port}/webhooks/whatsapp"
        with suppress(aiohttp.ClientError):
            return await post(url, HEARTBEAT, X_Hub_Signature_256=signed(HEARTBEAT)) == status
        return False


async def _is(running: Child, status: str) -> bool:
    return bool(psutil.Process(running.pid).status() == status)
