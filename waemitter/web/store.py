"""API keys and the audit of what was done with them, in Postgres."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import Any, Final

import asyncpg

from waemitter.db.pool import outages
from waemitter.web.auth import Key


class KeyStore:
    def __init__(self, pool: asyncpg.Pool[asyncpg.Record]) -> None:
        self._pool = pool

    ACTIVE: Final = """
        select id, name, digest, scopes from waemitter.api_keys
        where revoked_at is null and (expires_at is null or expires_at > clock_timestamp()) order by id
    """
    USED: Final = """
        update waemitter.api_keys k set last_used_at = clock_timestamp()
        from (select id from waemitter.api_keys
              where id = any ($1::bigint[])
                and (last_used_at is null or last_used_at < clock_timestamp() - interval '1 minute')
              order by id for no key update skip locked) u
        where k.id = u.id
    """

    async def active(self, used: Sequence[int]) -> Sequence[Key]:
        """The keys that are good now; those of `used` get their `last_used_at`, by the minute."""
        with outages():
            async with self._pool.acquire() as connection:
                if used:
                    await connection.execute(self.USED, used)
                records = await connection.fetch(self.ACTIVE)
        return [
            Key(record["id"], record["name"], record["digest"], frozenset(record["scopes"]))
            for record in records
        ]

    CREATE: Final = """
        insert into waemitter.api_keys (name, digest, scopes, expires_at)
        values ($1, $2, $3, clock_timestamp() + $4) returning id, name, scopes, created_at, expires_at
    """

    async def create(
        self,
        name: str,
        *,
        digest: bytes,
        scopes: Sequence[str],
        lasts: datetime.timedelta | None,
    ) -> dict[str, Any]:
        with outages():
            record = await self._pool.fetchrow(self.CREATE, name, digest, scopes, lasts)
        assert record is not None  # noqa: S101 an insert returns its row
        return dict(record)

    LIST: Final = """
        select id, name, scopes, created_at, created_by, expires_at, last_used_at, revoked_at
        from waemitter.api_keys order by id
    """

    async def list(self) -> Sequence[dict[str, Any]]:
        """All of them, the revoked ones too; of the secrets nothing."""
        with outages():
            return [dict(record) for record in await self._pool.fetch(self.LIST)]

    REVOKE: Final = """
        update waemitter.api_keys set revoked_at = clock_timestamp()
        where id = $1 and revoked_at is null returning id
    """

    async def revoke(self, key_id: int) -> bool:
        """False when there is no such key, or it was revoked before."""
        with outages():
            return await self._pool.fetchval(self.REVOKE, key_id) is not None


class AuditStore:
    def __init__(self, pool: asyncpg.Pool[asyncpg.Record]) -> None:
        self._pool = pool

    RECORD: Final = """
        insert into waemitter.audit_log (action, target, actor, key_name, request_id)
        values ($1, $2, $3, $4, $5)
    """

    async def record(
        self, *, action: str, target: str | None, actor: str | None, key: str, request_id: str
    ) -> None:
        with outages():
            await self._pool.execute(self.RECORD, action, target, actor, key, request_id)
