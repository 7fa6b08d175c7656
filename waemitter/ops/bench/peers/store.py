"""The peers' side of the bench's Postgres: a schema of their own, and the table that they keep the wamids in."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final, TypeAlias

import asyncpg

from waemitter.ops.bench.store import recipient

Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"

SCHEMA: Final = "peers"
SETTINGS: Final = {
    "search_path": SCHEMA,
    "log_statement": "none",  # they speak far more often than we do: nobody counts it here, so nobody pays for it
}


@asynccontextmanager
async def open_peer_pool(dsn: str, *, size: int) -> AsyncIterator[Pool]:
    """As asyncpg's own manual makes one, in the peers' schema."""
    async with asyncpg.create_pool(
        dsn, min_size=size, max_size=size, server_settings=SETTINGS
    ) as pool:
        yield pool


class PeerStore:
    """Messages as their application would keep them, beside the queue's own tables."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    CREATE: Final = """
        create schema if not exists peers;
        drop schema peers cascade;
        create schema peers;
        create table peers.messages (
          id bigint primary key, body text not null, wamid text, sent_at timestamptz) with (fillfactor = 70)
    """
    FILL: Final = """
        insert into peers.messages (id, body)
        select n, jsonb_build_object('messaging_product', 'whatsapp', 'recipient_type', 'individual',
          'to', '+1415' || lpad(n::text, 7, '0'), 'type', 'text',
          'biz_opaque_callback_data', format('wm1.%s.0123456789abcdef', n),
          'text', jsonb_build_object('body', format(
          'Order %s has left our house, and will be with you on Tuesday between nine and twelve. You can follow it, or '
          'choose another day or a neighbour, at https://example.com/orders/%s', n, n)))::text
        from generate_series(1, $1::integer) n
    """
    ALL: Final = "select id, body from peers.messages order by id"

    async def fill(self, messages: int) -> Sequence[tuple[int, str]]:
        """Begin anew with so many messages; their ids, and the bodies that go to Meta."""
        await self._pool.execute(self.CREATE)
        await self._pool.execute(self.FILL, messages)
        return [(record[0], record[1]) for record in await self._pool.fetch(self.ALL)]

    SETTLE_IN: Final = "vacuum analyze"
    CHECKPOINT: Final = "checkpoint"

    async def settle_in(self) -> None:
        """Once the jobs are in the queue: what was filled is not part of what is measured."""
        await self._pool.execute(self.SETTLE_IN)
        await self._pool.execute(self.CHECKPOINT)

    SENT: Final = "update peers.messages set wamid = $2, sent_at = clock_timestamp() where id = $1"

    async def sent(self, row: int, wamid: str) -> None:
        """As a handler would, for each message."""
        await self._pool.execute(self.SENT, row, wamid)

    SENT_TOGETHER: Final = """
        update peers.messages m set wamid = d.wamid, sent_at = clock_timestamp()
        from unnest($1::bigint[], $2::text[]) as d (id, wamid) where m.id = d.id
    """

    async def sent_together(self, rows: Sequence[int], wamids: Sequence[str]) -> None:
        """As an expert's handler would: many messages in one statement."""
        await self._pool.execute(self.SENT_TOGETHER, rows, wamids)

    ADD_JOB: Final = """
        select graphile_worker.add_job('send', json_build_object('body', jsonb_build_object('messaging_product', 'whatsapp',
          'recipient_type', 'individual', 'to', $1::text, 'type', 'text',
          'text', jsonb_build_object('body', 'Your order has left our house.'))::text))
    """

    async def add_job(self, n: int) -> None:
        """As an application would tell graphile-worker of a message to recipient(n)."""
        await self._pool.execute(self.ADD_JOB, recipient(n))

    WITHOUT: Final = "select count(*) from peers.messages where wamid is null"

    async def without_wamid(self) -> int:
        """Messages whose wamid was never stored."""
        missing: int = await self._pool.fetchval(self.WITHOUT)
        return missing
