"""Journalled webhooks, to be worked on."""

from __future__ import annotations

import datetime
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from operator import itemgetter
from typing import Final, TypeAlias

import asyncpg

from waemitter.db.pool import outages

Connection: TypeAlias = "asyncpg.pool.PoolConnectionProxy[asyncpg.Record]"


@dataclass(frozen=True, slots=True)
class Webhook:
    """A journalled body, leased to be worked on."""

    id: int
    source: str
    body: bytes
    attempts: int


class InboxStore:
    def __init__(self, pool: asyncpg.Pool[asyncpg.Record]) -> None:
        self._pool = pool

    CLAIM: Final = """
        with due as (
          select id from waemitter.webhook_logs where available_at is not null and available_at <= clock_timestamp()
          order by available_at, id limit $1 for no key update skip locked)
        update waemitter.webhook_logs l set available_at = clock_timestamp() + $2, attempts = l.attempts + 1
        from due where l.id = due.id returning l.id, l.source, l.body, l.attempts
    """

    async def claim(self, limit: int, *, lease: datetime.timedelta) -> list[Webhook]:
        with outages():
            records = await self._pool.fetch(self.CLAIM, limit, lease)
        return [Webhook(*record) for record in sorted(records, key=itemgetter(0))]

    NEXT_DUE: Final = """
        select extract(epoch from min(available_at) - clock_timestamp())::float8 from waemitter.webhook_logs
        where available_at is not null
    """

    async def next_due(self) -> float | None:
        """Seconds until a webhook is to be worked on; None when none waits."""
        with outages():
            seconds: float | None = await self._pool.fetchval(self.NEXT_DUE)
        return seconds

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """What a webhook causes, and that it is done, are one transaction. Raises DatabaseUnreachable."""
        with outages():
            async with self._pool.acquire() as connection, connection.transaction():
                yield connection

    DONE: Final = """
        update waemitter.webhook_logs set available_at = null, processed_at = clock_timestamp(), error = null
        where id = any ($1) and available_at is not null
    """

    async def done(self, connection: Connection, ids: Sequence[int]) -> None:
        await connection.execute(self.DONE, ids)

    NOTE_RECEIVING: Final = "select waemitter.note_receiving(away => $1)"

    async def note_receiving(self, *, away: datetime.timedelta | None) -> None:
        """Tell that webhooks are received; `away`: for how long, until now, they were not. Raises DatabaseUnreachable."""
        with outages():
            await self._pool.execute(self.NOTE_RECEIVING, away)

    FAILED: Final = """
        update waemitter.webhook_logs
        set available_at = case when attempts < $3 then clock_timestamp() + $4 end, error = $2
        where id = $1 and available_at is not null
    """

    async def failed(
        self, webhook_id: int, *, error: str, attempts: int, delay: datetime.timedelta
    ) -> None:
        """Try it again after `delay`, until it had its `attempts`; then it stays, with its error, for a replay."""
        with outages():
            await self._pool.execute(self.FAILED, webhook_id, error, attempts, delay)
