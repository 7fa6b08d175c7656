"""A whole daemon in this process, over the bench's sink: every statement of its pool is overheard, exactly."""

from __future__ import annotations

import asyncio
import functools
import gc
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

import asyncpg
import pytest
import structlog

from tests.support import eventually
from waemitter.daemon import run_daemon
from waemitter.ops.bench.sink import Sink, serve
from waemitter.runtime.supervise import Stop
from waemitter.settings import load

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

ENQUEUE: Final = """
    insert into waemitter.outbox_messages (recipient, message_type, payload, ordering_key, available_at)
    select '+1415' || 5550000 + n, 'text', jsonb_build_object('text', jsonb_build_object('body', repeat('x', 350))), $2,
           clock_timestamp() + $3
    from generate_series(1, $1::integer) n
"""
"""Payloads just below 400 bytes."""


@dataclass(frozen=True)
class Whole:
    """`admin` is a connection of the test's own; `statements` holds the daemon's."""

    sink: Sink
    admin: Connection
    statements: list[str]

    def spoken(self, *functions: str) -> int:
        """How many statements called one of these functions."""
        return sum(any(name in spoken for name in functions) for spoken in self.statements)

    async def value(self, statement: str, *arguments: object) -> Any:
        return await self.admin.fetchval(statement, *arguments)

    async def until(self, condition: str, *, within: float = 60) -> None:
        """Return when a statement says true."""

        async def true() -> bool:
            return bool(await self.value(condition))

        either: Callable[[], Awaitable[bool] | bool] = true
        await eventually(either, within=within, every=0.05)

    async def drained(self) -> None:
        """Return when the queue is empty."""
        await self.until(
            "select not exists (select from waemitter.outbox_messages where available_at is not null)"
        )


def overheard(patch: pytest.MonkeyPatch) -> list[str]:
    """Every statement of pools that are opened from now on."""
    statements: list[str] = []

    async def overhear(connection: Connection) -> None:
        connection.add_query_logger(lambda record: statements.append(record.query))

    patch.setattr(
        "waemitter.db.pool.asyncpg.create_pool",
        functools.partial(asyncpg.create_pool, init=overhear),
    )
    return statements


def environment(dsn: str, port: int) -> dict[str, str]:
    """A channel without a limit, whose Cloud API is at that port."""
    return {
        "DATABASE_URL": dsn,
        "WHATSAPP_API_URL": f"http://127.0.0.1:{port}/v24.0",
        "WHATSAPP_ACCESS_TOKEN": "simulated",
        "WHATSAPP_PHONE_NUMBER_ID": "111000111",
        "WAEMITTER_HTTP__PORT": "0",
        "WAEMITTER_LOGGING__LEVEL": "error",
        "WAEMITTER_CHANNEL__MESSAGES_PER_SECOND": "0",
    }


def written(settings: Mapping[str, str]) -> dict[str, str]:
    return {
        name[1:] if name.startswith("_") else f"WAEMITTER_{name}": value
        for name, value in settings.items()
    }


@asynccontextmanager
async def whole_daemon(
    dsn: str,
    patch: pytest.MonkeyPatch,
    *,
    latency: float = 0.0,
    config: Path | None = None,
    **settings: str,
) -> AsyncIterator[Whole]:
    """`config`: a waemitter.toml; `settings` by their names after WAEMITTER_, or whole behind a `_`.

    The channel has no limit unless one says so.
    """
    statements = overheard(patch)
    stop = Stop(grace=20)
    handlers, level = logging.getLogger().handlers[:], logging.getLogger().level
    async with await serve(sink := Sink(latency=latency)) as server:
        port = server.sockets[0].getsockname()[1]
        loaded = load(environ=environment(dsn, port) | written(settings), config=config)
        admin = await asyncpg.connect(dsn)
        running = asyncio.ensure_future(run_daemon(loaded.settings, stop=stop))
        try:
            await eventually(lambda: any("claim_messages" in spoken for spoken in statements))
            yield Whole(sink, admin, statements)
        finally:
            stop.request()
            code = await running
            await admin.close()
            logging.getLogger().handlers[:] = handlers
            logging.getLogger().setLevel(level)
            structlog.reset_defaults()
            gc.unfreeze()
    assert code == 0
