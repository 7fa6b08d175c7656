"""What the turns' bench asks of its own Postgres."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import asyncpg
import orjson


class TurnsStore:
    def __init__(self, pool: asyncpg.Pool[asyncpg.Record]) -> None:
        self._pool = pool

    CLEAR: Final = """
        truncate waemitter.webhook_logs, waemitter.processed_webhook_messages, waemitter.contacts, waemitter.agent_sessions,
          waemitter.agent_usage cascade
    """
    CHECKPOINT: Final = "checkpoint"

    async def begin(self) -> None:
        """Nobody has written yet."""
        await self._pool.execute(self.CLEAR)
        await self._pool.execute(self.CHECKPOINT)

    HEAR: Final = "insert into waemitter.webhook_logs (source, body) select 'whatsapp', b from unnest($1::bytea[]) b"
    RING_INBOX: Final = "notify waemitter_inbox"

    async def hear(self, *values: Mapping[str, Any]) -> None:
        """Journal these messages, and ring."""
        bodies = [
            orjson.dumps(
                {
                    "object": "whatsapp_business_account",
                    "entry": [{"id": "1", "changes": [{"field": "messages", "value": value}]}],
                }
            )
            for value in values
        ]
        await self._pool.execute(self.HEAR, bodies)
        await self._pool.execute(self.RING_INBOX)

    OPEN: Final = "select count(*) from waemitter.message_buffer where status = 'open'"

    async def open_windows(self) -> int:
        count: int = await self._pool.fetchval(self.OPEN)
        return count

    CLOSE: Final = """
        update waemitter.message_buffer set closes_at = clock_timestamp() where status = 'open'
    """
    LAST: Final = "select coalesce(max(id), 0) from waemitter.message_buffer where status <> 'open'"
    RING: Final = "notify waemitter_buffer"

    async def close_windows(self) -> int:
        """All at once; returns the last turn before them."""
        last: int = await self._pool.fetchval(self.LAST)
        await self._pool.execute(self.CLOSE)
        await self._pool.execute(self.RING)
        return last

    ENDED: Final = (
        "select count(*) from waemitter.message_buffer where status in ('completed', 'failed')"
    )

    async def ended(self) -> int:
        count: int = await self._pool.fetchval(self.ENDED)
        return count

    TOOK: Final = """
        select extract(epoch from processed_at - closed_at)::float8 * 1000 as took from waemitter.message_buffer
        where status = 'completed' and id > $1
    """

    async def took_ms(self, *, after: int) -> list[float]:
        """From the end of each window to the commit of its replies."""
        return [record["took"] for record in await self._pool.fetch(self.TOOK, after)]

    STRAY: Final = """
        select count(*) from waemitter.message_buffer b
        join waemitter.buffer_processing_jobs j on j.buffer_id = b.id
        left join waemitter.agent_sessions s on s.turn_id = b.id
        where b.status <> 'completed' or b.outcome <> 'answered' or j.attempts <> 1 or s.outcome is distinct from 'answered'
    """

    async def stray(self) -> int:
        """Turns that were lost, tried again, or not answered by the agent."""
        count: int = await self._pool.fetchval(self.STRAY)
        return count
