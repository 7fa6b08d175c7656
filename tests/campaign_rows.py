"""A campaign as its tests drive it: made, filled, counted from its row and from its messages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from tests.outbox_rows import Outbox
from waemitter.outbox.campaigns.store import Campaign, CampaignStore, Enqueued, NewCampaign

TEXT: Final = '{"text": {"body": "Hello"}}'
COUNTERS: Final = (
    "total",
    "sent",
    "delivered",
    "read",
    "failed",
    "suppressed",
    "cancelled",
    "expired",
    "clicked",
    "replied",
)
RECOUNT: Final = """
    select count(*) as total, count(*) filter (where status in ('sent', 'delivered', 'read')) as sent,
           count(*) filter (where status in ('delivered', 'read')) as delivered,
           count(*) filter (where status = 'read') as read, count(*) filter (where status = 'failed') as failed,
           count(*) filter (where status = 'suppressed') as suppressed,
           count(*) filter (where status = 'cancelled') as cancelled,
           count(*) filter (where status = 'expired') as expired, count(clicked_at) as clicked, count(replied_at) as replied
    from waemitter.outbox_messages where campaign_id = $1
"""


def numbers(count: int, start: int = 0) -> list[str]:
    return [f"+1415555{n:04}" for n in range(start, start + count)]


@dataclass(frozen=True, slots=True)
class Campaigns:
    outbox: Outbox
    store: CampaignStore

    async def make(self, *recipients: str, start: bool = True, **said: Any) -> int:
        """A campaign to these recipients, which runs unless told otherwise."""
        campaign = await self.store.create(NewCampaign(name="May", **said))
        if recipients:
            await self.fill(campaign, recipients)
        if start:
            assert await self.store.change(campaign, "start")
        return campaign

    async def fill(
        self, campaign: int, recipients: Sequence[str], zones: Sequence[str | None] = ()
    ) -> Enqueued:
        return await self.store.enqueue(
            campaign,
            message_type="text",
            recipients=recipients,
            payloads=[TEXT],
            zones=zones or [None] * len(recipients),
        )

    async def counters(self, campaign: int) -> dict[str, int]:
        row: Campaign = await self.store.get(campaign)
        return {name: getattr(row, name) for name in COUNTERS}

    async def recounted(self, campaign: int) -> dict[str, int]:
        """What the counters must be."""
        record = await self.outbox.pool.fetchrow(RECOUNT, campaign)
        assert record is not None
        return dict(record)

    async def messages(self, campaign: int) -> list[int]:
        records = await self.outbox.pool.fetch(
            "select id from waemitter.outbox_messages where campaign_id = $1 order by id", campaign
        )
        return [record["id"] for record in records]
