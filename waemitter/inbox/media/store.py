"""Files that customers sent: which are to be fetched, and where those are that were."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import Final, NamedTuple

import asyncpg

from waemitter.db.pool import outages
from waemitter.inbox.store import Connection


class Wanted(NamedTuple):
    """A file to fetch; the order is that of WANT. `sha256` in hex, as the webhook told."""

    message_id: int
    channel: str
    wamid: str
    kind: str
    media_id: str
    mime_type: str | None
    sha256: str | None


class Due(NamedTuple):
    """A file, leased to be fetched. `day`: the server's date (UTC), by which files are kept; `tries` counts from 1."""

    id: int
    channel: str
    media_id: str
    mime_type: str | None
    sha256: str | None
    tries: int
    day: str


class File(NamedTuple):
    """A message's file: `pending`, `stored`, or `failed`. `path` in the directory, or an `s3://` address; `sha256` in hex."""

    wamid: str
    status: str
    path: str | None
    mime_type: str | None
    sha256: str | None
    bytes: int | None


class Expired(NamedTuple):
    """`path`: the file to remove; None when there is none, or a younger message has the same one."""

    id: int
    path: str | None


class InboundMediaStore:
    def __init__(
        self,
        pool: asyncpg.Pool[asyncpg.Record],
        *,
        first_retry: datetime.timedelta = datetime.timedelta(minutes=2),
    ) -> None:
        """`first_retry`: when a dead letter is tried again."""
        self._pool = pool
        self._first_retry = first_retry

    WANT: Final = """
        insert into waemitter.inbound_media (message_id, channel, whatsapp_message_id, kind, media_id, mime_type, sha256)
        select * from unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[])
        on conflict do nothing
    """

    async def want(self, connection: Connection, files: Sequence[Wanted]) -> None:
        """In the transaction that keeps the messages."""
        columns = [list(column) for column in zip(*files, strict=True)]
        await connection.execute(self.WANT, *columns)

    CLAIM: Final = """
        with due as materialized (
          select id from waemitter.inbound_media
          where available_at <= clock_timestamp() and channel = any ($1)
          order by available_at, id limit $2 for no key update skip locked)
        update waemitter.inbound_media m set available_at = clock_timestamp() + $3, attempts = m.attempts + 1
        from due where m.id = due.id
        returning m.id, m.channel, m.media_id, m.mime_type, m.sha256, m.attempts as tries,
          to_char(clock_timestamp() at time zone 'UTC', 'YYYY-MM-DD') as day
    """

    async def claim(
        self, channels: Sequence[str], limit: int, *, lease: datetime.timedelta
    ) -> list[Due]:
        """Of these channels alone: a file is fetched with its own number's token. Raises DatabaseUnreachable."""
        with outages():
            return [
                Due(*record)
                for record in await self._pool.fetch(self.CLAIM, list(channels), limit, lease)
            ]

    CLAIM_ONE: Final = """
        update waemitter.inbound_media m
        set available_at = clock_timestamp() + $3, attempts = m.attempts + 1, status = 'pending'
        where m.id = $2 and m.channel = any ($1) and m.status <> 'stored'
          and (m.available_at is null or m.available_at <= clock_timestamp())
        returning m.id, m.channel, m.media_id, m.mime_type, m.sha256, m.attempts as tries,
          to_char(clock_timestamp() at time zone 'UTC', 'YYYY-MM-DD') as day
    """

    async def claim_one(
        self, channels: Sequence[str], media: int, *, lease: datetime.timedelta
    ) -> Due | None:
        """One that was given up, once more; None when it is stored, or somebody fetches it right now."""
        with outages():
            record = await self._pool.fetchrow(self.CLAIM_ONE, list(channels), media, lease)
        return None if record is None else Due(*record)

    MISSING: Final = (
        "select exists (select from waemitter.inbound_media where id = $1 and status <> 'stored')"
    )

    async def missing(self, media: int) -> bool:
        """It is wanted, and not there."""
        with outages():
            return bool(await self._pool.fetchval(self.MISSING, media))

    NEXT_DUE: Final = """
        select extract(epoch from min(available_at) - clock_timestamp())::float8 from waemitter.inbound_media
        where available_at is not null and channel = any ($1)
    """

    async def next_due(self, channels: Sequence[str]) -> float | None:
        """Seconds until a file is to be fetched; None when none waits. Raises DatabaseUnreachable."""
        with outages():
            seconds: float | None = await self._pool.fetchval(self.NEXT_DUE, list(channels))
        return seconds

    RELEASE: Final = """
        with mine as materialized (
          select m.id from waemitter.inbound_media m
          join unnest($1::bigint[], $2::smallint[]) as g (id, tries) on m.id = g.id and m.attempts = g.tries
          where m.available_at is not null order by m.id for no key update of m)
        update waemitter.inbound_media m set available_at = clock_timestamp(), attempts = m.attempts - 1
        from mine where m.id = mine.id
    """

    async def release(self, files: Sequence[Due]) -> None:
        """Give back what was not begun. Raises DatabaseUnreachable."""
        with outages():
            await self._pool.execute(
                self.RELEASE, [each.id for each in files], [each.tries for each in files]
            )

    KEEP: Final = """
        update waemitter.inbound_media
        set status = 'stored', available_at = null, path = $2, mime_type = $3, sha256 = $4, bytes = $5, error = null,
            stored_at = clock_timestamp()
        where id = $1 and status <> 'stored'
    """

    async def keep(
        self, file: Due, *, path: str, mime_type: str | None, sha256: str, size: int
    ) -> None:
        """It is there. Whoever's lease it was: the same bytes have the same name. Raises DatabaseUnreachable."""
        with outages():
            await self._pool.execute(self.KEEP, file.id, path, mime_type, sha256, size)

    RETRY: Final = """
        update waemitter.inbound_media set available_at = clock_timestamp() + $3, error = $4
        where id = $1 and attempts = $2 and available_at is not null
    """

    async def retry(self, file: Due, *, delay: datetime.timedelta, error: str) -> None:
        with outages():
            await self._pool.execute(self.RETRY, file.id, file.tries, delay, error)

    GIVE_UP: Final = """
        with ended as (
          update waemitter.inbound_media set status = 'failed', available_at = null, error = $3
          where id = $1 and attempts = $2 and available_at is not null returning *)
        insert into waemitter.dead_letters
          (direction, source, stage, channel, whatsapp_message_id, payload, error, attempts, next_retry_at, resolution_status)
        select 'inbound', 'whatsapp', 'media', channel, whatsapp_message_id,
          jsonb_build_object('inbound_media_id', id, 'message_id', message_id, 'media_id', media_id, 'kind', kind),
          error, attempts, clock_timestamp() + $5::interval, case when $5::interval is null then 'abandoned' else 'pending' end
        from ended where $4
    """

    async def give_up(self, file: Due, *, error: str, letter: bool, again: bool = False) -> None:
        """It will not be tried again by itself; `letter`: write a dead letter, abandoned unless it may be tried `again`."""
        retry_in = self._first_retry if again else None
        with outages():
            await self._pool.execute(self.GIVE_UP, file.id, file.tries, error, letter, retry_in)

    FILES: Final = """
        select whatsapp_message_id as wamid, status, path, mime_type, sha256, bytes from waemitter.inbound_media
        where channel = $1 and whatsapp_message_id = any ($2)
    """

    async def files(self, channel: str, wamids: Sequence[str]) -> dict[str, File]:
        """The files of these messages, by the messages' ids. Raises DatabaseUnreachable."""
        with outages():
            records = await self._pool.fetch(self.FILES, channel, list(wamids))
        return {record["wamid"]: File(*record) for record in records}

    EXPIRED: Final = """
        with gone as materialized (
          select m.id, m.path from waemitter.inbound_media m
          where coalesce(m.stored_at, m.created_at) < clock_timestamp() - $1::interval and m.available_at is null
          union
          select m.id, m.path from waemitter.inbound_media m
          where m.message_id is null and m.available_at is null
            and (m.path is null or m.stored_at < date_trunc('day', clock_timestamp() - interval '1 hour', 'UTC'))
          order by 1 limit $2)
        select g.id, case when not exists (
            select from waemitter.inbound_media o
            where o.path = g.path and o.message_id is not null
              and coalesce(o.stored_at, o.created_at) >= clock_timestamp() - $1::interval
              and o.id not in (select id from gone)) then g.path end as path
        from gone g order by g.id
    """

    async def expired(self, older_than: datetime.timedelta, *, limit: int) -> list[Expired]:
        """Files older than that, and those whose message was deleted before today.

        A file's name has the day on which its fetching began, so that nothing is written any more to where one is removed.
        """
        with outages():
            records = await self._pool.fetch(self.EXPIRED, older_than, limit)
        return [Expired(*record) for record in records]

    FORGET: Final = "delete from waemitter.inbound_media where id = any ($1)"

    async def forget(self, ids: Sequence[int]) -> None:
        with outages():
            await self._pool.execute(self.FORGET, ids)
