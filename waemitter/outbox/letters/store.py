"""Dead letters in Postgres, of both directions, and the failures by webhook that become one or are sent again."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import Any, Final, NamedTuple, TypeAlias

import asyncpg

from waemitter.db.pool import outages
from waemitter.outbox.retry import Again, Patience

Connection: TypeAlias = "asyncpg.pool.PoolConnectionProxy[asyncpg.Record]"


class FailureUpdate(NamedTuple):
    """A failure that Meta told by a webhook; the order is that of apply_failures(). `delay` in seconds."""

    message_id: int | None
    token: int | None
    wamid: str | None
    code: int | None
    error_class: str
    again: Again
    tries: int | None
    delay: float
    suppress: bool


class Failed(NamedTuple):
    """What became of the message of the `n`th failure, counted from 1. `delay`: it is sent again; None: a dead letter."""

    n: int
    message_id: int
    channel: str
    correlation_id: str | None
    attempt: int
    delay: float | None
    template: str | None
    language: str | None


class Chosen(NamedTuple):
    """Which letters an operator means; None = any. The order is that of LIST."""

    direction: str | None = None
    status: str | None = None
    channel: str | None = None
    stage: str | None = None
    error_code: int | None = None
    older_than: datetime.timedelta | None = None


class Pile(NamedTuple):
    direction: str
    status: str
    letters: int


class LetterStore:
    def __init__(self, pool: asyncpg.Pool[asyncpg.Record]) -> None:
        self._pool = pool

    APPLY_FAILURES: Final = """
        select n, message_id, channel, correlation_id, attempt, delay, template, language
        from waemitter.apply_failures(message_ids => $1, tokens => $2, wamids => $3, codes => $4, classes => $5, agains => $6,
                                      tries => $7, delays => $8, suppressed => $9, retries => $10, retry_delays => $11)
    """

    async def apply_failures(
        self, connection: Connection, failures: Sequence[FailureUpdate], *, patience: Patience
    ) -> list[Failed]:
        """Within the caller's transaction, after its apply_statuses(). Failures that are no news give nothing."""
        if not failures:
            return []
        columns = [list(column) for column in zip(*failures, strict=True)]
        records = await connection.fetch(
            self.APPLY_FAILURES, *columns, patience.max_attempts, list(patience.delays)
        )
        return [Failed(*record) for record in records]

    LIST: Final = """
        select id, direction, stage, channel, message_id, whatsapp_message_id, error_class, error_code, error, attempts,
               retry_count, next_retry_at, resolution_status, created_at
        from waemitter.dead_letters
        where ($1::text is null or direction = $1) and ($2::text is null or resolution_status = $2)
          and ($3::text is null or channel = $3) and ($4::text is null or stage = $4)
          and ($5::integer is null or error_code = $5) and ($6::interval is null or created_at < clock_timestamp() - $6)
          and id < coalesce($8, 9223372036854775807)
        order by id desc limit $7
    """

    async def list(
        self, chosen: Chosen, *, limit: int, before: int | None = None
    ) -> Sequence[dict[str, Any]]:
        """The newest first; `before` an id pages on."""
        with outages():
            records = await self._pool.fetch(self.LIST, *chosen, limit, before)
        return [dict(record) for record in records]

    GET: Final = """
        select id, direction, source, stage, channel, message_id, whatsapp_message_id, contact, payload, error, stack,
               error_class, error_code, attempts, retry_count, next_retry_at, resolution_status, correlation_id,
               created_at, updated_at, resolved_at
        from waemitter.dead_letters where id = $1
    """

    async def get(self, letter_id: int) -> dict[str, Any] | None:
        with outages():
            record = await self._pool.fetchrow(self.GET, letter_id)
        return None if record is None else dict(record)

    RETRY: Final = "select id from unnest($1::bigint[]) as u (id) where waemitter.retry_letter(id)"
    DISCARD: Final = """
        with meant as materialized (
          select id from waemitter.dead_letters where id = any ($1) and resolution_status in ('pending', 'abandoned')
          order by id for no key update)
        update waemitter.dead_letters d set resolution_status = 'discarded' from meant where d.id = meant.id returning d.id
    """

    async def retry(self, ids: Sequence[int]) -> Sequence[int]:
        """Send, or handle, once more. Returns the ids for which it took effect."""
        with outages():
            return [record["id"] for record in await self._pool.fetch(self.RETRY, sorted(ids))]

    async def discard(self, ids: Sequence[int]) -> Sequence[int]:
        """Put aside what is neither resolved nor discarded. Returns the ids for which it took effect."""
        with outages():
            return [record["id"] for record in await self._pool.fetch(self.DISCARD, sorted(ids))]

    PILES: Final = """
        select direction, resolution_status as status, count(*) as letters from waemitter.dead_letters group by 1, 2
    """

    async def piles(self) -> Sequence[Pile]:
        """How many letters there are, of each kind. Counting takes a scan: not for every second."""
        with outages():
            return [Pile(*record) for record in await self._pool.fetch(self.PILES)]
