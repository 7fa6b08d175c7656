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
    """Messages by how far they got: who was delivered was sent. `recent`: sent in the last minute."""

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
        select count(*) filter (where status = 'queued') as pending,
               count(*) filter (where status in ('sending', 'unconfirmed')) as processing,
               count(*) filter (where sent_at is not null and status <> 'failed'
                                   or status in ('sent', 'delivered', 'read')) as sent,
               count(*) filter (where status in ('failed', 'cancelled', 'expired', 'suppressed')) as failed,
               count(*) filter (where status in ('delivered', 'read')) as delivered,
               count(*) filter (where status = 'read') as read,
               count(*) filter (where sent_at > clock_timestamp() - interval '1 minute') as recent
        from waemitter.outbox_messages where $1::bigint is null or campaign_id = $1
    """

    async def tally(self, campaign_id: int | None) -> Tally:
        """Count the outbox, or one campaign. Reads every row: not for every second."""
        with outages():
            record = await self._pool.fetchrow(self.TALLY, campaign_id)
        assert record is not None  # noqa: S101 an aggregate has one row
        return Tally(*record)
