"""Where the bench measures: a Postgres that writes down every statement, clouds to send to, and daemons."""

from __future__ import annotations

import asyncio
import re
import tempfile
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import aiohttp

from waemitter.db.pool import open_pool
from waemitter.ops.bench.cloud import BenchFailed, SimulatedCloud, SinkCloud
from waemitter.ops.bench.daemons import Daemon, running_daemon
from waemitter.ops.bench.meter import Meter
from waemitter.ops.bench.store import BenchStore
from waemitter.ops.processes import child
from waemitter.ops.stage import Stage, stage

LOOK_EVERY: Final = 0.02  # seconds
SETTLED_WITHIN: Final = 30.0
PATIENCE: Final = 30.0  # seconds, and more for many messages:
SLOWEST: Final = 50.0  # a second; what is slower has failed

UNLIMITED: Final = 0.0
STATEMENT_WITHIN: Final = 600.0  # seconds: a million rows are inserted by one

POSTGRES: Final = {
    "log_statement": "all",
    "log_parameter_max_length": "0",
    "log_line_prefix": "%a|",  # who asked, so that only the daemon's statements are counted
}
STATEMENT: Final = re.compile(
    rb"^waemitter(?: listener)?\|LOG:  (?:execute|statement)", re.MULTILINE
)
SIMULATOR: Final = (
    *("--messages-per-second", "0"),
    "--no-error-recipients",
    *("--sent-delay", "0", "0.1"),
    *("--delivered-delay", "0", "0.2"),
    *("--read-delay", "0", "0.5"),
)


@dataclass(frozen=True, slots=True)
class Site:
    """`directory` is for the daemons' logs, `data` is the server's own."""

    stage: Stage
    store: BenchStore
    session: aiohttp.ClientSession
    directory: Path
    data: Path

    @asynccontextmanager
    async def sink(self, *, latency: float = 0.0) -> AsyncIterator[SinkCloud]:
        """A sink that answers after `latency` seconds."""
        module = ("-m", "waemitter.ops.bench.sink", "--latency", str(latency))
        async with child("the sink", module) as running:
            address = (await running.event("SINK_STARTED"))["address"]
            yield SinkCloud(address, self.session)

    @asynccontextmanager
    async def simulator(self, *, latency: float = 0.0) -> AsyncIterator[SimulatedCloud]:
        """A simulator that sets no limit, and reports the fate of each message."""
        module = ("-m", "waemitter", "simulate", "--port", "0", "--latency", str(latency))
        async with child("the simulator", (*module, *SIMULATOR)) as running:
            address = (await running.event("SIMULATOR_STARTED"))["address"]
            yield SimulatedCloud(address, self.session)

    def daemon(
        self,
        graph_url: str,
        *,
        messages_per_second: float | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> AbstractAsyncContextManager[Daemon]:
        """A daemon that sends to `graph_url`; its channel's limit is 80 a second unless told, 0 is none."""
        limit = 80.0 if messages_per_second is None else messages_per_second
        environ = {
            **self.stage.environment(),
            "WHATSAPP_API_URL": graph_url,
            "WAEMITTER_CHANNEL__MESSAGES_PER_SECOND": str(limit),
            **(settings or {}),
        }
        return running_daemon(environ, self.directory / f"daemon-{time.time_ns()}.log")

    def statements_logged(self) -> int:
        """The daemons' statements since this server was started, as Postgres wrote them down."""
        return len(STATEMENT.findall((self.data.parent / "log").read_bytes()))

    def binaries(self) -> Path:
        """Where this server's own programs are, pgbench among them. Raises UsageError without psutil."""
        pid = int((self.data / "postmaster.pid").read_text().partition("\n")[0])
        return Meter(pid).executable().parent

    async def settled(self, *, within: float = SETTLED_WITHIN) -> None:
        """Until the queue is empty. Raises BenchFailed when it is not in time."""
        await self.channel_settled(None, within=within)

    async def channel_settled(self, channel: str | None, *, within: float) -> None:
        """Until this channel's queue is empty. Raises BenchFailed when it is not in time."""
        try:
            async with asyncio.timeout(within):
                while await self.store.waiting(channel):  # noqa: ASYNC110 to be told, a trigger would have to run
                    await asyncio.sleep(LOOK_EVERY)
        except TimeoutError:
            raise BenchFailed(f"the queue was not empty after {within:.0f} s") from None


def patience(messages: int) -> float:
    """Seconds after which so many messages will not arrive any more."""
    return PATIENCE + messages / SLOWEST


@asynccontextmanager
async def site(*, logged: bool = True) -> AsyncIterator[Site]:
    """An embedded Postgres with the schema, all defaults but for the log from which statements are counted (`logged`)."""
    with tempfile.TemporaryDirectory(prefix="waemitter-bench-") as directory:
        async with (
            stage(settings=POSTGRES if logged else None) as on,
            open_pool(
                on.dsn,
                size=10,
                application_name="waemitter bench",
                statement_timeout=STATEMENT_WITHIN,
            ) as pool,
            aiohttp.ClientSession() as session,
        ):
            store = BenchStore(pool)
            data = Path(await store.data_directory())
            yield Site(on, store, session, Path(directory), data)
