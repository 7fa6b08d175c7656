"""What was uploaded to Meta, and for how long it is there."""

from __future__ import annotations

import datetime
from typing import Final, NamedTuple

import asyncpg

from waemitter.db.pool import outages


class Stored(NamedTuple):
    """A file at Meta. `bytes` is its size; the order is that of FIND."""

    media_id: str
    channel: str
    sha256: str
    mime_type: str
    bytes: int
    uploaded_at: datetime.datetime
    expires_at: datetime.datetime


class MediaStore:
    def __init__(self, pool: asyncpg.Pool[asyncpg.Record]) -> None:
        self._pool = pool

    FIND: Final = """
        select media_id, channel, sha256, mime_type, bytes, uploaded_at, expires_at from waemitter.media
        where channel = $1 and phone_number_id = $2 and sha256 = $3 and mime_type = $4
          and expires_at > clock_timestamp() + $5
    """

    async def find(
        self,
        channel: str,
        *,
        phone_number_id: str,
        sha256: str,
        mime_type: str,
        lasts: datetime.timedelta,
    ) -> Stored | None:
        """The same file, when it was uploaded and stays for at least `lasts`."""
        with outages():
            record = await self._pool.fetchrow(
                self.FIND, channel, phone_number_id, sha256, mime_type, lasts
            )
        return None if record is None else Stored(*record)

    KEEP: Final = """
        insert into waemitter.media
          (channel, phone_number_id, sha256, mime_type, bytes, media_id, uploaded_at, expires_at)
        values ($1, $2, $3, $4, $5, $6, clock_timestamp(), clock_timestamp() + $7)
        on conflict (channel, sha256, mime_type) do update
        set phone_number_id = excluded.phone_number_id, bytes = excluded.bytes, media_id = excluded.media_id,
            uploaded_at = excluded.uploaded_at, expires_at = excluded.expires_at
        returning media_id, channel, sha256, mime_type, bytes, uploaded_at, expires_at
    """

    async def keep(
        self,
        channel: str,
        *,
        phone_number_id: str,
        sha256: str,
        mime_type: str,
        size: int,
        media_id: str,
        lasts: datetime.timedelta,
    ) -> Stored:
        """Remember an upload that Meta keeps for `lasts`, in place of an older one of the same file."""
        with outages():
            record = await self._pool.fetchrow(
                self.KEEP, channel, phone_number_id, sha256, mime_type, size, media_id, lasts
            )
        assert record is not None  # noqa: S101 an upsert returns its row
        return Stored(*record)
