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


class OpsStore:
    def __init__(self, pool: asyncpg.Pool[asyncpg.Record]) -> None:
        self._pool = pool

    CAMPAIGN: Final = """
        insert into waemitter.outbox_messages (recipient, message_type, payload, ordering_key, campaign_id)
        select '+1415' || case when n % $3 = 0 then '0131026' else lpad((5550000 + n)::text, 7, '0') end, 'text',
               jsonb_build_object('text', jsonb_build_object('body', format('Order %s is on its way', n))), '', 1
        from generate_series(1, $1::integer) n where n > $2::integer
    """

    async def enqueue_campaign(self, messages: int, *, every_undeliverable: int) -> None:
        """Each to a customer of its own, but for every n-th, which goes to a number that is not on WhatsApp."""
        await self._pool.execute(self.CAMPAIGN, messages, 0, every_undeliverable)

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
        from waemitter.outbox_messages
    """

    async def funnel(self) -> Funnel:
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
        from waemitter.outbox_messages where campaign_id = 1 and attempts = 1
    """

    async def pace(self) -> float:
        """Messages a second, from the campaign's first to its last; retries left out."""
        rate: float | None = await self._pool.fetchval(self.PACE)
        return rate or 0.0
