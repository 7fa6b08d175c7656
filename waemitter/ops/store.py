"""What the demo and the benches ask of the database."""

from __future__ import annotations

from typing import Final, NamedTuple

import asyncpg


class Funnel(NamedTuple):
    """Messages that came at least so far; `retried`: more than one attempt."""

    total: int
    waiting: int
    sent: int
    delivered: int
    read: int
    failed: int
    retried: int


class Talk(NamedTuple):
    """Windows that are not answered yet, turns that were; seconds from a window's end to its answer, of half of them at most."""

    waiting: int
    answered: int
    median: float


class OpsStore:
    def __init__(self, pool: asyncpg.Pool[asyncpg.Record]) -> None:
        self._pool = pool

    ONE: Final = "select waemitter.send_text($1, $2, ordering_key => '')"

    async def enqueue_one(self, recipient: str, text: str) -> int:
        message_id: int = await self._pool.fetchval(self.ONE, recipient, text)
        return message_id

    FUNNEL: Final = """
        select count(*) as total, count(*) filter (where available_at is not null) as waiting,
               count(*) filter (where sent_at is not null) as sent, count(*) filter (where delivered_at is not null) as delivered,
               count(*) filter (where read_at is not null) as read,
               count(*) filter (where status in ('failed', 'expired', 'cancelled', 'suppressed')) as failed,
               count(*) filter (where attempts > 1) as retried
        from waemitter.outbox_messages where category is distinct from 'service'
    """

    async def funnel(self) -> Funnel:
        """Of what was sent of our own accord: answers to customers are told apart."""
        record = await self._pool.fetchrow(self.FUNNEL)
        assert record is not None  # noqa: S101 an aggregate has one row
        return Funnel(*record)

    ARRIVED: Final = "select count(*) from waemitter.outbox_messages where status in ('sending', 'queued', 'unconfirmed', 'sent')"

    async def unfinished(self) -> int:
        """Messages of which more is to be heard."""
        count: int = await self._pool.fetchval(self.ARRIVED)
        return count

    RETRIED: Final = """
        select ltrim(recipient, '+') as recipient from waemitter.outbox_messages where attempts > 1
    """

    async def retried(self) -> set[str]:
        """The recipients (digits) whose message took more than one attempt."""
        return {record["recipient"] for record in await self._pool.fetch(self.RETRIED)}

    PACE: Final = """
        select (count(*) / nullif(extract(epoch from max(sent_at) - min(sent_at)), 0))::float8
        from waemitter.outbox_messages where campaign_id = $1 and attempts = 1
    """

    async def pace(self, campaign_id: int) -> float:
        """Messages a second, from the campaign's first to its last; retries left out."""
        rate: float | None = await self._pool.fetchval(self.PACE, campaign_id)
        return rate or 0.0

    TALK: Final = """
        select count(*) filter (where status in ('open', 'processing')) as waiting,
               count(*) filter (where outcome = 'answered') as answered,
               coalesce(extract(epoch from percentile_cont(0.5) within group (order by processed_at - closed_at)
                                             filter (where outcome = 'answered')), 0)::float8 as median
        from waemitter.message_buffer
    """

    async def talk(self) -> Talk:
        record = await self._pool.fetchrow(self.TALK)
        assert record is not None  # noqa: S101 an aggregate has one row
        return Talk(*record)

    ANSWERS: Final = """
        select payload #>> '{text,body}' as body from waemitter.outbox_messages
        where recipient = '+' || $1 and category = 'service' order by id
    """

    async def answers_to(self, recipient: str) -> list[str]:
        """What a customer (digits) was answered, from the first."""
        return [record["body"] for record in await self._pool.fetch(self.ANSWERS, recipient)]
