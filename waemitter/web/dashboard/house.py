"""Switches, figures by the hour, and what operators did."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final

from waemitter.web.dashboard.charts import chart
from waemitter.web.dashboard.records.store import RecordStore
from waemitter.web.dashboard.store import DashboardStore
from waemitter.web.dashboard.visit import Answer, Done, Page, Route, Visit
from waemitter.web.problems import Problem

ROWS: Final = 50
HOURS: Final = 48
SERIES: Final = {
    "messages_sent": "Sent",
    "messages_delivered": "Delivered",
    "messages_read": "Read",
    "messages_failed": "Failed",
    "webhooks_received": "Webhooks",
}


class House:
    def __init__(self, store: DashboardStore, records: RecordStore) -> None:
        self._store = store
        self._records = records

    def routes(self) -> Sequence[Route]:
        return (
            Route("GET", "/flags", self.flags),
            Route("POST", "/flags/{name}", self.switch),
            Route("GET", "/analytics", self.analytics),
            Route("GET", "/audit", self.audit),
        )

    async def flags(self, _: Visit) -> Answer:
        return Page("flags.html", {"rows": await self._records.flags()})

    async def switch(self, visit: Visit) -> Answer:
        name, to = visit.request.match_info["name"], visit.text("to")
        if to not in {"on", "off"}:
            raise Problem(HTTPStatus.BAD_REQUEST, "A switch goes on or off.")
        count = await self._records.switch(name, on=to == "on")
        return Done("/dashboard/flags", "switch", count, f"{name} {to}")

    async def analytics(self, _: Visit) -> Answer:
        rows = await self._records.figures()
        hours = sorted({row["hour"] for row in rows})
        return Page(
            "analytics.html",
            {"figures": [figure(name, rows, hours) for name in SERIES], "hours": len(hours)},
        )

    async def audit(self, visit: Visit) -> Answer:
        rows = await self._store.audit(limit=ROWS, before=visit.whole("before"))
        further = rows[-1]["id"] if len(rows) == ROWS else None
        return Page("audit.html", {"rows": rows, "further": further})


def figure(name: str, rows: Sequence[Mapping[str, Any]], hours: Sequence[Any]) -> Mapping[str, Any]:
    found = {row["hour"]: row["value"] for row in rows if row["name"] == name}
    values = [found.get(hour, 0.0) for hour in hours]
    return {"name": SERIES[name], "sum": sum(values), "chart": chart(values, [], slots=HOURS)}
