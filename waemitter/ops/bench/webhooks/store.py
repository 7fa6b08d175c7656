"""What the webhooks' bench asks of its own Postgres."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import asyncpg


class WebhookStore:
    def __init__(self, pool: asyncpg.Pool[asyncpg.Record]) -> None:
        self._pool = pool

    CLEAR: Final = "truncate waemitter.webhook_logs"
    CHECKPOINT: Final = "checkpoint"
    SENT: Final = """
        insert into waemitter.outbox_messages
          (recipient, message_type, payload, status, available_at, attempts, sent_at, claimed_at, whatsapp_message_id)
        select '+14155550123', 'text', '{"text": {"body": "Your order has left our house"}}', 'sent', null, 1,
          clock_timestamp() - interval '1 minute', clock_timestamp() - interval '1 minute', wamid
        from unnest($1::text[]) as w (wamid)
    """

    async def begin(self, wamids: Sequence[str]) -> None:
        """An empty journal, and messages that Meta has accepted."""
        await self._pool.execute(self.CLEAR)
        await self._pool.execute(self.SENT, wamids)
        await self._pool.execute(self.CHECKPOINT)

    JOURNALLED: Final = "select count(*) from waemitter.webhook_logs"

    async def journalled(self) -> int:
        count: int = await self._pool.fetchval(self.JOURNALLED)
        return count

    LAG: Final = """
        select coalesce(extract(epoch from clock_timestamp() - (
          select created_at from waemitter.webhook_logs where available_at is not null order by available_at, id limit 1
        )), 0)::float8
    """

    async def lag(self) -> float:
        """For how many seconds the oldest webhook has been waiting to be worked off; 0 when none is."""
        lag: float = await self._pool.fetchval(self.LAG)
        return lag

    WAITING: Final = (
        "select exists (select from waemitter.webhook_logs where available_at is not null)"
    )

    async def waiting(self) -> bool:
        waiting: bool = await self._pool.fetchval(self.WAITING)
        return waiting

    READ: Final = "select count(*) from waemitter.outbox_messages where status = 'read'"

    async def read(self) -> int:
        """Messages that came to the end of their way."""
        count: int = await self._pool.fetchval(self.READ)
        return count

    PRELOAD: Final = "insert into waemitter.webhook_logs (source, body) select 'whatsapp', b from unnest($1::bytea[]) b"
    RING: Final = "notify waemitter_inbox"

    async def preload(self, bodies: Sequence[bytes]) -> None:
        """Journal them all at once, and ring."""
        await self._pool.execute(self.PRELOAD, bodies)
        await self._pool.execute(self.RING)


class BareStore:
    """A table for the bare handlers, and their INSERTs."""

    def __init__(self, pool: asyncpg.Pool[asyncpg.Record]) -> None:
        self._pool = pool

    CREATE: Final = """
        create schema if not exists bare;
        drop table if exists bare.webhooks;
        create table bare.webhooks (
          id bigint generated always as identity primary key, body bytea not null, created_at timestamptz not null default now());
    """

    async def create(self) -> None:
        await self._pool.execute(self.CREATE)

    ONE: Final = "insert into bare.webhooks (body) values ($1)"

    async def insert(self, body: bytes) -> None:
        await self._pool.execute(self.ONE, body)

    MANY: Final = "insert into bare.webhooks (body) select b from unnest($1::bytea[]) b"

    async def insert_many(self, bodies: Sequence[bytes]) -> None:
        await self._pool.execute(self.MANY, bodies)
