"""What the turns' bench asks of its own Postgres."""

from __future__ import annotations

from typing import Final, NamedTuple

import asyncpg


class Ended(NamedTuple):
    """`turns`: that were completed; `whole`: of those, with all messages of their customer; `late_p99`: seconds."""

    turns: int
    whole: int
    replies: int
    answered: int
    late_p50: float
    late_p99: float
    late_most: float


class BurstsStore:
    def __init__(self, pool: asyncpg.Pool[asyncpg.Record]) -> None:
        self._pool = pool

    CLEAR: Final = """
        truncate waemitter.conversations, waemitter.contacts, waemitter.contact_addresses, waemitter.processed_webhook_messages,
          waemitter.webhook_logs, waemitter.user_sessions cascade
    """
    CHECKPOINT: Final = "checkpoint"

    async def begin(self) -> None:
        """Nobody has written yet."""
        await self._pool.execute(self.CLEAR)
        await self._pool.execute(self.CHECKPOINT)

    COMPLETED: Final = (
        "select count(*) from waemitter.message_buffer where status in ('completed', 'failed')"
    )

    async def completed(self) -> int:
        count: int = await self._pool.fetchval(self.COMPLETED)
        return count

    # A turn is claimed when its conversation begins to be worked on; it was due when its window closed.
    ENDED: Final = """
        with turns as (
          select b.id, b.message_count, extract(epoch from t.at - b.closed_at)::float8 as late
          from waemitter.message_buffer b
          join waemitter.conversation_state_transitions t
            on t.conversation_id = b.conversation_id and t.correlation_id = b.correlation_id and t.to_status = 'processing'
          where b.status = 'completed')
        select count(*), count(*) filter (where message_count = $1),
          (select count(*) from waemitter.outbox_messages where idempotency_key like 'turn:%'),
          (select count(distinct recipient) from waemitter.outbox_messages where idempotency_key like 'turn:%'),
          percentile_cont(0.5) within group (order by late), percentile_cont(0.99) within group (order by late), max(late)
        from turns
    """

    async def ended(self, messages: int) -> Ended:
        """What became of turns; `messages`: of one customer."""
        record = await self._pool.fetchrow(self.ENDED, messages)
        assert record is not None  # noqa: S101 an aggregate has one row
        return Ended(*record[:4], *(value or 0.0 for value in tuple(record)[4:]))
