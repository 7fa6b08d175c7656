"""Campaigns in Postgres. schema.sql counts and moves; here its functions get names, arguments and types."""

from __future__ import annotations

import datetime
from collections.abc import AsyncIterator, Sequence
from decimal import Decimal
from enum import StrEnum
from typing import Any, Final, Literal, NamedTuple

import asyncpg

from waemitter.db.pool import outages
from waemitter.errors import CampaignEnded, NotFound
from waemitter.outbox.campaigns.quiet import QuietHours

Action = Literal["start", "pause", "resume", "cancel"]


class Category(StrEnum):
    """Of a campaign's messages, as Meta has them; opt-outs concern them by it (`opt_out_concerns` in schema.sql)."""

    MARKETING = "marketing"
    UTILITY = "utility"
    AUTHENTICATION = "authentication"
    SERVICE = "service"


ROWS: Final = 5000
"""Rows that one statement writes, releases or ends: some hundred milliseconds of locks."""


class Campaign(NamedTuple):
    """A row of `campaigns`. sent ≥ delivered ≥ read; the other outcomes stand beside them; `payload` is JSON text."""

    id: int
    name: str
    channel: str
    status: str
    total: int
    sent: int
    delivered: int
    read: int
    failed: int
    suppressed: int
    cancelled: int
    expired: int
    clicked: int
    replied: int
    message_type: str | None
    payload: str | None
    messages_per_second: float | None
    priority: int
    max_attempts: int | None
    starts_at: datetime.datetime | None
    expires_at: datetime.datetime | None
    quiet_from: datetime.time | None
    quiet_until: datetime.time | None
    created_by: str
    created_at: datetime.datetime
    started_at: datetime.datetime | None
    completed_at: datetime.datetime | None
    category: str

    @property
    def ended(self) -> int:
        """Messages that have an outcome."""
        return self.sent + self.failed + self.suppressed + self.cancelled + self.expired

    @property
    def progress(self) -> int:
        """Whole percent of the messages that have an outcome."""
        return self.ended * 100 // self.total if self.total else 0


class NewCampaign(NamedTuple):
    """What is said of a campaign when it is made; the order is that of CREATE."""

    name: str
    channel: str = "default"
    message_type: str | None = None
    payload: str | None = None
    messages_per_second: float | None = None
    priority: int = 0
    max_attempts: int | None = None
    starts_at: datetime.datetime | None = None
    expires_at: datetime.datetime | None = None
    quiet_from: datetime.time | None = None
    quiet_until: datetime.time | None = None
    created_by: str | None = None
    category: str = Category.MARKETING

    def quiet(self, hours: QuietHours | None) -> NewCampaign:
        return self if hours is None else self._replace(quiet_from=hours[0], quiet_until=hours[1])


class Enqueued(NamedTuple):
    """Rows written; `duplicates`: recipients that the campaign had already."""

    queued: int
    suppressed: int
    duplicates: int


class Failure(NamedTuple):
    """How many messages failed so; `message` is that of one of them."""

    code: int | None
    messages: int
    message: str | None


class Charge(NamedTuple):
    """Delivered messages of one price; `sample` is one of their recipients, all of the same numbers' block."""

    category: str
    billable: bool
    day: datetime.date
    messages: int
    sample: str


class Rate(NamedTuple):
    """What Meta charges for a message; the order is that of IMPORT_RATES."""

    country: str
    category: str
    price: Decimal
    currency: str
    valid_from: datetime.date


class CampaignStore:
    def __init__(self, pool: asyncpg.Pool[asyncpg.Record]) -> None:
        self._pool = pool

    CREATE: Final = """
        insert into waemitter.campaigns (name, channel, message_type, payload, messages_per_second, priority, max_attempts,
                                         starts_at, expires_at, quiet_from, quiet_until, created_by, category)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, coalesce($12, current_user), $13) returning id
    """

    CHANNEL: Final = "select true from waemitter.channels where name = $1"

    async def create(self, campaign: NewCampaign) -> int:
        """A draft: nothing of it is sent before it is started. Raises NotFound for a channel that is not there."""
        with outages():
            if not await self._pool.fetchval(self.CHANNEL, campaign.channel):
                raise NotFound(f"there is no channel {campaign.channel!r} in waemitter.channels")
            campaign_id: int = await self._pool.fetchval(self.CREATE, *campaign)
        return campaign_id

    COUNT: Final = "select waemitter.count_changes()"
    GET: Final = """
        select id, name, channel, status, total, sent, delivered, read, failed, suppressed, cancelled, expired, clicked,
               replied, message_type, payload, messages_per_second, priority, max_attempts, starts_at, expires_at,
               quiet_from, quiet_until, created_by, created_at, started_at, completed_at, category
        from waemitter.campaigns where id = $1
    """

    async def get(self, campaign_id: int) -> Campaign:
        """As it stands now, what nobody had counted yet included. Raises NotFound."""
        with outages():
            record = await self._pool.fetchrow(self.GET, campaign_id)
            if record is not None and await self._pool.fetchval(self.COUNT):
                record = await self._pool.fetchrow(self.GET, campaign_id)
        if record is None:
            raise NotFound(f"there is no campaign {campaign_id}")
        return Campaign(*record)

    LIST: Final = """
        select id, name, channel, status, total, sent, delivered, read, failed, suppressed, cancelled, expired, clicked,
               replied, message_type, payload, messages_per_second, priority, max_attempts, starts_at, expires_at,
               quiet_from, quiet_until, created_by, created_at, started_at, completed_at, category
        from waemitter.campaigns where id < coalesce($2, 9223372036854775807) order by id desc limit $1
    """

    async def list(self, *, limit: int, before: int | None = None) -> Sequence[Campaign]:
        """The newest first; `before` an id pages on."""
        with outages():
            return [
                Campaign(*record) for record in await self._pool.fetch(self.LIST, limit, before)
            ]

    ENQUEUE: Final = """
        select queued, suppressed, duplicates
        from waemitter.enqueue_campaign(campaign => $1, message_type => $2, recipients => $3, payloads => $4, zones => $5)
    """

    async def enqueue(
        self,
        campaign_id: int,
        *,
        message_type: str,
        recipients: Sequence[str],
        payloads: Sequence[str],
        zones: Sequence[str | None],
    ) -> Enqueued:
        """Write many rows in one statement; of `payloads` the first serves those without one of their own.

        Raises NotFound and CampaignEnded.
        """
        try:
            with outages():
                record = await self._pool.fetchrow(
                    self.ENQUEUE, campaign_id, message_type, recipients, payloads, zones
                )
        except asyncpg.NoDataFoundError as error:
            raise NotFound(f"there is no campaign {campaign_id}") from error
        except asyncpg.ObjectNotInPrerequisiteStateError as error:
            raise CampaignEnded(f"campaign {campaign_id} is cancelled: make a new one") from error
        assert record is not None  # noqa: S101 the function returns exactly one row
        return Enqueued(*record)

    START: Final = "select waemitter.start_campaign(id => $1)"
    PAUSE: Final = "select waemitter.pause_campaign(id => $1)"
    RESUME: Final = "select waemitter.resume_campaign(id => $1)"
    CANCEL: Final = "select waemitter.cancel_campaign(id => $1)"
    RELEASE: Final = "select waemitter.release_holds(hold => $1, max_rows => $2)"
    CANCEL_ROWS: Final = "select waemitter.cancel_campaign_rows(id => $1, max_rows => $2)"

    async def change(self, campaign_id: int, action: Action) -> bool:
        """False when the campaign's status does not allow it. What waited is released, or ended, in batches."""
        statement = {
            "start": self.START,
            "pause": self.PAUSE,
            "resume": self.RESUME,
            "cancel": self.CANCEL,
        }[action]
        with outages():
            if not await self._pool.fetchval(statement, campaign_id):
                return False
            if action in ("start", "resume"):
                hold = f"campaign:{campaign_id}"
                while await self._pool.fetchval(self.RELEASE, hold, ROWS) >= ROWS:
                    pass
            elif action == "cancel":
                while await self._pool.fetchval(self.CANCEL_ROWS, campaign_id, ROWS) >= ROWS:
                    pass
        return True

    FAILURES: Final = """
        select error_code as code, count(*) as messages, min(error_message) as message
        from waemitter.outbox_messages where campaign_id = $1 and status = 'failed' group by 1 order by 2 desc, 1
    """

    async def failures(self, campaign_id: int) -> Sequence[Failure]:
        """The failed messages by Meta's code, the most frequent first. It reads all rows of the campaign."""
        with outages():
            return [
                Failure(*record) for record in await self._pool.fetch(self.FAILURES, campaign_id)
            ]

    CHARGES: Final = """
        select pricing_category as category, coalesce(billable, false) as billable, (sent_at at time zone 'UTC')::date as day,
               count(*) as messages, min(recipient) as sample
        from waemitter.outbox_messages
        where campaign_id = $1 and status in ('delivered', 'read') and pricing_category is not null
        group by 1, 2, 3, left(waemitter.address(recipient), 7) order by 1, 2, 3
    """

    async def charges(self, campaign_id: int) -> Sequence[Charge]:
        """What was delivered, by the category of its pricing and the block of numbers (seven digits)."""
        with outages():
            return [Charge(*record) for record in await self._pool.fetch(self.CHARGES, campaign_id)]

    EXPORT: Final = """
        select id, recipient, status, attempts, whatsapp_message_id, error_code, error_message, created_at, sent_at,
               delivered_at, read_at, failed_at, clicked_at, replied_at, pricing_category, billable
        from waemitter.outbox_messages where campaign_id = $1 and id > $2 order by id limit $3
    """

    async def export(self, campaign_id: int) -> AsyncIterator[dict[str, Any]]:
        """Every message and what became of it, in the order in which they were enqueued."""
        last = 0
        while True:
            with outages():
                records = await self._pool.fetch(self.EXPORT, campaign_id, last, ROWS)
            for record in records:
                yield dict(record)
            if len(records) < ROWS:
                return
            last = records[-1]["id"]

    IMPORT_RATES: Final = """
        insert into waemitter.message_rates (country, category, price, currency, valid_from)
        select * from unnest($1::text[], $2::text[], $3::numeric[], $4::text[], $5::date[])
        on conflict (country, category, valid_from) do update set price = excluded.price, currency = excluded.currency
    """

    async def import_rates(self, rates: Sequence[Rate]) -> None:
        """All or none; a rate of the same country, category and day is replaced."""
        columns = [list(column) for column in zip(*rates, strict=True)]
        with outages():
            await self._pool.execute(self.IMPORT_RATES, *columns)

    RATES: Final = """
        select country, category, price, currency, valid_from from waemitter.message_rates
        order by country, category, valid_from
    """

    async def rates(self) -> Sequence[Rate]:
        with outages():
            return [Rate(*record) for record in await self._pool.fetch(self.RATES)]
