"""Campaigns: how far each came, and what failed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from waemitter.outbox.campaigns.store import Action, CampaignStore
from waemitter.web.dashboard.records.store import RecordStore
from waemitter.web.dashboard.visit import Answer, Done, Page, Route, Visit

ROWS: Final = 30
ALLOWED: Final[dict[str, tuple[Action, ...]]] = {
    "draft": ("start", "cancel"),
    "scheduled": ("pause", "cancel"),
    "running": ("pause", "cancel"),
    "paused": ("resume", "cancel"),
}
ACTIONS: Final[dict[str, Action]] = {
    "start": "start",
    "pause": "pause",
    "resume": "resume",
    "cancel": "cancel",
}


class Campaigns:
    def __init__(
        self, campaigns: CampaignStore, records: RecordStore, *, ring: Callable[[], None]
    ) -> None:
        self._campaigns = campaigns
        self._records = records
        self._ring = ring

    def routes(self) -> Sequence[Route]:
        return (
            Route("GET", "/campaigns", self.list),
            Route("GET", "/campaigns/{id:[0-9]{1,18}}", self.show),
            Route(
                "POST", "/campaigns/{id:[0-9]{1,18}}/{verb:start|pause|resume|cancel}", self.change
            ),
        )

    async def list(self, visit: Visit) -> Answer:
        rows = await self._campaigns.list(limit=ROWS, before=visit.whole("before"))
        further = rows[-1].id if len(rows) == ROWS else None
        return Page("campaigns.html", {"rows": rows, "further": further})

    async def show(self, visit: Visit) -> Answer:
        campaign = await self._campaigns.get(visit.id)
        context = {
            "row": campaign,
            "failures": await self._records.failures(visit.id) if campaign.failed else (),
            "verbs": ALLOWED.get(campaign.status, ()),
        }
        return Page("campaign.html", context)

    async def change(self, visit: Visit) -> Answer:
        action = ACTIONS[visit.request.match_info["verb"]]
        changed = await self._campaigns.change(visit.id, action)
        self._ring()
        return Done(
            f"/dashboard/campaigns/{visit.id}", action, int(changed), f"campaign {visit.id}"
        )
