"""The journal of webhooks in Postgres: appended to, drained into, replayed, and emptied of what is old."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import asyncpg

from waemitter.db.pool import outages
from waemitter.inbox.journal.records import Entry, Spooled


class JournalStore:
    def __init__(self, pool: asyncpg.Pool[asyncpg.Record]) -> None:
        self._pool = pool

    APPEND: Final = """
        with appended as (
          insert into waemitter.webhook_logs (source, body, headers)
          select source, body, headers::jsonb from unnest($1::text[], $2::bytea[], $3::text[]) as e (source, body, headers)
          returning id)
        select max(id) from appended
    """

    async def append(self, entries: Sequence[Entry]) -> int:
        """Journal many bodies with one commit; returns the highest id among them. Raises DatabaseUnreachable."""
        columns = [list(column) for column in zip(*entries, strict=True)]
        with outages():
            newest: int = await self._pool.fetchval(self.APPEND, *columns)
        return newest

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
