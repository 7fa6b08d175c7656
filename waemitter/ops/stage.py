"""A stage to try things on: a Postgres, a simulated Cloud API, and daemons, each its own process."""

from __future__ import annotations

import asyncio
import signal
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp

from waemitter.db import schema
from waemitter.db.embedded import EmbeddedPostgres
from waemitter.db.pool import open_connection
from waemitter.ops.processes import Child, child

APP_SECRET: Final = "simulator-app-secret"  # noqa: S105 the simulator's own, known to everybody
VERIFY_TOKEN: Final = "demo"  # noqa: S105
NUMBER_ID: Final = "111000111"
TOKEN: Final = "simulated"  # noqa: S105


class Stage:
    """What runs, and where; `dsn` is of a database that has the schema."""

    def __init__(self, stack: AsyncExitStack, dsn: str) -> None:
        self._stack = stack
        self.dsn = dsn
        self.simulator: Child | None = None
        self.graph_url = ""
        self.http = ""

    async def simulate(self, *flags: str) -> Child:
        """Start the simulator. Its webhooks find the daemon once `announce` has told where it is."""
        running = await self._stack.enter_async_context(
            child(
                "the simulator",
                ["-m", "waemitter", "simulate", "--port", "0", *flags],
                # At once: the daemon that it would bring its last webhooks to has ended before it.
                signals=(signal.SIGINT, signal.SIGTERM),
            )
        )
        address = (await running.event("SIMULATOR_STARTED"))["address"]
        self.simulator, self.graph_url = running, f"{address}/v24.0"
        return running

    async def daemon(
        self, environ: Mapping[str, str] | None = None, arguments: Sequence[str] = ()
    ) -> tuple[Child, str]:
        """Start a daemon on any free port; it is ready when this returns, with its address."""
        running = await self._stack.enter_async_context(
            child(
                "the daemon",
                ["-m", "waemitter", "run", *arguments],
                environ=self.environment() | dict(environ or {}),
            )
        )
        address: str = (await running.event("DAEMON_STARTED"))["address"]
        await running.event("DAEMON_READY")
        return running, address

    def environment(self) -> dict[str, str]:
        """The settings that lead a daemon to this stage."""
        return {
            "DATABASE_URL": self.dsn,
            "WHATSAPP_API_URL": self.graph_url,
            "WHATSAPP_ACCESS_TOKEN": TOKEN,
            "WHATSAPP_PHONE_NUMBER_ID": NUMBER_ID,
            "WHATSAPP_APP_SECRET": APP_SECRET,
            "WHATSAPP_VERIFY_TOKEN": VERIFY_TOKEN,
            "WAEMITTER_HTTP__PORT": "0",
            "WAEMITTER_LOGGING__FORMAT": "json",
        }

    async def announce(self, daemon_address: str) -> None:
        """Tell the simulator where its webhooks go."""
        await self.control(
            "PATCH", "options", {"webhook_url": f"{daemon_address}/webhooks/whatsapp"}
        )

    async def control(self, method: str, path: str, body: Any = None) -> Any:
        """Speak to the simulator's control API."""
        parts = urlsplit(self.graph_url)
        url = f"{parts.scheme}://{parts.netloc}/_simulator/{path}"
        async with (
            aiohttp.ClientSession() as session,
            session.request(method, url, json=body) as response,
        ):
            response.raise_for_status()
            return await response.json()


@asynccontextmanager
async def stage(
    *, version: int = 18, settings: Mapping[str, str] | None = None
) -> AsyncIterator[Stage]:
    """An embedded Postgres with the schema, in a directory that goes with it."""
    async with AsyncExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="waemitter-"))
        postgres = EmbeddedPostgres(Path(directory), version=version, settings=settings or {})
        stack.callback(postgres.stop)
        dsn = await asyncio.to_thread(postgres.start)
        async with open_connection(dsn) as connection:
            await schema.apply(connection)
        yield Stage(stack, dsn)
