"""What clients of the API put into the outbox and ask of it as a whole."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import asyncpg

from waemitter.db.pool import outages
from waemitter.errors import PayloadError
from waemitter.outbox.store import OutboxStore


@dataclass(frozen=True, slots=True, kw_only=True)
class NewMessage:
    """A message to enqueue; None takes the default. `payload` is JSON."""

    recipient: str
    message_type: str
    payload: str
    channel: str
    idempotency_key: str | None
    available_at: datetime.datetime | None
    expires_at: datetime.datetime | None
    priority: int
    ordering_key: str | None
    correlation_id: str | None
    traceparent: str | None
    max_attempts: int | None
    category: str | None


class Tally(NamedTuple):
    """Messages by how far they got, since the first: who was delivered was sent. `recent`: sent in the last minute."""

    pending: int
    processing: int
    sent: int
    failed: int
    delivered: int
    read: int
    recent: int


class IntakeStore:
    def __init__(self, pool: asyncpg.Pool[asyncpg.Record]) -> None:
        self._pool = pool

    CHANNEL: Final = "select from waemitter.channels where name = $1"
    SEND: Final = """
        select waemitter.send_message(
          recipient => $1, message_type => $2, payload => $3, channel => $4, idempotency_key => $5,
          available_at => $6, expires_at => $7, priority => $8, ordering_key => $9,
          correlation_id => $10, max_attempts => $11, traceparent => $12, category => $13)
    """
    OURS: Final = """
        select xmin::text = (pg_current_xact_id()::xid)::text as ours
        from waemitter.outbox_messages where id = $1
    """

    async def enqueue(self, message: NewMessage) -> tuple[dict[str, Any], bool]:
        """The row, and whether it is new: a known idempotency key gives the first row back.

        Raises PayloadError for a channel that is not there, and for what Postgres cannot store.
        """
        try:
            with outages():
                async with self._pool.acquire() as connection, connection.transaction():
                    if await connection.fetchrow(self.CHANNEL, message.channel) is None:
                        raise PayloadError("channel", "is not known: add it to the settings first")
                    message_id = await connection.fetchval(
                        self.SEND,
                        message.recipient,
                        message.message_type,
                        message.payload,
                        message.channel,
                        message.idempotency_key,
                        message.available_at,
                        message.expires_at,
                        message.priority,
                        message.ordering_key,
                        message.correlation_id,
                        message.max_attempts,
                        message.traceparent,
                        message.category,
                    )
                    # Only a row that this transaction wrote has its id as xmin.
                    ours = await connection.fetchval(self.OURS, message_id)
                    record = await connection.fetchrow(OutboxStore.GET, message_id)
        except asyncpg.DataError as error:
            raise PayloadError(
                "body", "holds what Postgres cannot store, such as \\u0000"
            ) from error
        assert record is not None  # noqa: S101 the row was just written, or found
        return dict(record), bool(ours)

    TALLY: Final = """
        with waiting as materialized (
          select status, campaign_id from waemitter.outbox_messages where available_at is not null),
        queue as (
          select count(*) filter (where status = 'queued') as pending, count(*) filter (where status <> 'queued') as processing
          from waiting where $1::bigint is null or campaign_id = $1),
        counted as (
          select sent, delivered, read, failed from waemitter.outbox_totals where $1::bigint is null
          union all
          select sent, delivered, read, failed from waemitter.outbox_counts where $1::bigint is null
          union all
          select sent, delivered, read, failed + suppressed + cancelled + expired from waemitter.campaigns where id = $1),
        recent as (
          select sum(greatest(sent, 0)) as sent from waemitter.outbox_counts
          where at > clock_timestamp() - interval '1 minute' and ($1::bigint is null or campaign_id = $1))
        select q.pending, q.processing, coalesce(sum(c.sent), 0)::bigint as sent, coalesce(sum(c.failed), 0)::bigint as failed,
               coalesce(sum(c.delivered), 0)::bigint as delivered, coalesce(sum(c.read), 0)::bigint as read,
               (select coalesce(r.sent, 0)::bigint from recent r) as recent
        from queue q left join counted c on true group by q.pending, q.processing
    """

    async def tally(self, campaign_id: int | None) -> Tally:
        """The outbox, or a campaign that CampaignStore.get just counted. Reads what is in the queue, no finished rows."""
        with outages():
            record = await self._pool.fetchrow(self.TALLY, campaign_id)
        assert record is not None  # noqa: S101 an aggregate has one row
        return Tally(*record)
