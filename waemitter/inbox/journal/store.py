"""The journal of webhooks in Postgres: appended to, drained into, replayed, and emptied of what is old."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import asyncpg

from waemitter.db.pool import outages
from waemitter.inbox.journal.records import Entry, Spooled


class JournalStore:
    def __init__(self, pool: asyncpg.Pool[asyncpg.Record]) -> None:
        self._pool = pool

    APPEND: Final = """
        insert into waemitter.webhook_logs (source, body, headers, available_at, attempts)
        select source, body, headers::jsonb, clock_timestamp() + coalesce($4, interval '0'), ($4 is not null)::integer
        from unnest($1::text[], $2::bytea[], $3::text[]) with ordinality as e (source, body, headers, n) order by n
        returning id
    """

    async def append(
        self, entries: Sequence[Entry], *, lease: datetime.timedelta | None = None
    ) -> Sequence[int]:
        """Journal many bodies with one commit; returns their ids, in their order. Raises DatabaseUnreachable.

        With a `lease` they are claimed already, for the first time: for whoever works them off in this process.
        """
        columns = [list(column) for column in zip(*entries, strict=True)]
        with outages():
            return [record[0] for record in await self._pool.fetch(self.APPEND, *columns, lease)]

    NEWEST: Final = "select coalesce(max(id), 0) from waemitter.webhook_logs"

    async def newest(self) -> int:
        """The highest id of the journal; 0 when it is empty."""
        with outages():
            newest: int = await self._pool.fetchval(self.NEWEST)
        return newest

    DRAINED: Final = "select drained from waemitter.webhook_spools where name = $1"

    async def drained(self, name: str) -> int:
        """How many bytes of a spool's file are in the table."""
        with outages():
            drained: int | None = await self._pool.fetchval(self.DRAINED, name)
        return drained or 0

    # Who comes second, with the same file at the same place, finds it moved on, and inserts nothing.
    DRAIN: Final = """
        with moved as (
          insert into waemitter.webhook_spools as s (name, drained) values ($1, $3)
          on conflict (name) do update set drained = excluded.drained, updated_at = clock_timestamp() where s.drained = $2
          returning true)
        insert into waemitter.webhook_logs (source, body, headers, created_at)
        select source, body, headers::jsonb, least(to_timestamp(received), clock_timestamp())
        from moved, unnest($4::text[], $5::bytea[], $6::text[], $7::float8[], $8::bigint[]) with ordinality
          as e (source, body, headers, received, after, n)
        where after is null or not exists (
          select from waemitter.webhook_logs l
          where l.id > after and l.source = e.source and l.body = e.body and l.headers = e.headers::jsonb)
        order by n
    """

    async def drain(self, name: str, records: Sequence[Spooled], *, start: int, end: int) -> None:
        """Journal what lies in a file from byte `start` to `end`, once. Raises DatabaseUnreachable."""
        entries = [list(column) for column in zip(*(r.entry for r in records), strict=True)]
        with outages():
            await self._pool.execute(
                self.DRAIN,
                name,
                start,
                end,
                *(entries or ([], [], [])),
                [record.received for record in records],
                [record.after for record in records],
            )

    FORGET: Final = "delete from waemitter.webhook_spools where name = $1"

    async def forget(self, name: str) -> None:
        """The file is gone."""
        with outages():
            await self._pool.execute(self.FORGET, name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """Which webhooks; what is None chooses all.

    `since`, `until`: a time, or how long ago by the database's clock. `error`: a part of it; "" is any error at all.
    """

    ids: Sequence[int] | None = None
    since: datetime.datetime | datetime.timedelta | None = None
    until: datetime.datetime | datetime.timedelta | None = None
    error: str | None = None

    def arguments(self) -> tuple[Any, ...]:
        """As the statements below want them: ids, both kinds of since, both of until, error."""
        return (self.ids, *_moment(self.since), *_moment(self.until), self.error)


def _moment(
    given: datetime.datetime | datetime.timedelta | None,
) -> tuple[datetime.datetime | None, datetime.timedelta | None]:
    if isinstance(given, datetime.timedelta):
        return None, given
    return given, None


class ReplayStore:
    """The journal as an operator sees it."""

    def __init__(self, pool: asyncpg.Pool[asyncpg.Record]) -> None:
        self._pool = pool

    LIST: Final = """
        select id, case when available_at is null then case when processed_at is null then 'failed' else 'processed' end
                        else 'waiting' end as state,
          source, octet_length(body) as bytes, attempts, created_at, processed_at, error
        from waemitter.webhook_logs
        where ($1::bigint[] is null or id = any ($1))
          and ($2::timestamptz is null or created_at >= $2) and ($3::interval is null or created_at >= now() - $3)
          and ($4::timestamptz is null or created_at < $4) and ($5::interval is null or created_at < now() - $5)
          and ($6::text is null or position($6 in error) > 0)
        order by id desc limit $7
    """

    async def newest_first(self, chosen: Chosen, *, limit: int) -> list[dict[str, Any]]:
        with outages():
            records = await self._pool.fetch(self.LIST, *chosen.arguments(), limit)
        return [dict(record) for record in records]

    GET: Final = """
        select id, source, octet_length(body) as bytes, headers::text, created_at, available_at, attempts, processed_at, error,
          body
        from waemitter.webhook_logs where id = $1
    """

    async def get(self, webhook_id: int) -> dict[str, Any] | None:
        with outages():
            record = await self._pool.fetchrow(self.GET, webhook_id)
        return dict(record) if record is not None else None

    # Not what is due anyhow, nor what was blanked. After eight days the keys may be gone by which a message is known to have been
    # handled: then only what never was is done again.
    REPLAY: Final = """
        with chosen as materialized (
          select id from waemitter.webhook_logs
          where ($1::bigint[] is null or id = any ($1))
            and ($2::timestamptz is null or created_at >= $2) and ($3::interval is null or created_at >= now() - $3)
            and ($4::timestamptz is null or created_at < $4) and ($5::interval is null or created_at < now() - $5)
            and ($6::text is null or position($6 in error) > 0)
            and available_at is null and body <> ''
            and (processed_at is null or created_at > now() - interval '8 days')
            and id > $7
          order by id limit $8 for no key update),
        told as (select pg_notify('waemitter_inbox', '') from (select from chosen limit 1) any_row)
        update waemitter.webhook_logs l set available_at = clock_timestamp(), attempts = 0
        from chosen left join told on true where l.id = chosen.id returning l.id
    """

    async def replay(self, chosen: Chosen, *, after: int, limit: int) -> list[int]:
        """Make those due again whose id is above `after`; returns the ids of at most `limit` of them."""
        with outages():
            records = await self._pool.fetch(self.REPLAY, *chosen.arguments(), after, limit)
        return [record["id"] for record in records]
