"""Switches, figures by the hour, and what operators did."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final

from waemitter.turns.flags.store import FlagStore
from waemitter.web.dashboard.charts import chart
from waemitter.web.dashboard.figures import lines
from waemitter.web.dashboard.operations.store import OperationsStore
from waemitter.web.dashboard.store import DashboardStore
from waemitter.web.dashboard.visit import Answer, Done, Page, Route, Visit
from waemitter.web.problems import Problem

ROWS: Final = 50
HOURS: Final = 48
WHOLE: Final = 100
BY: Final = ("hour", "route", "agent")
SERIES: Final = {
    "messages_sent": "Sent",
    "messages_delivered": "Delivered",
    "messages_read": "Read",
    "messages_failed": "Failed",
    "webhooks_received": "Webhooks",
    "turns": "Turns",
}


class House:
    def __init__(
        self, store: DashboardStore, operations: OperationsStore, flags: FlagStore
    ) -> None:
        self._store = store
        self._operations = operations
        self._flags = flags

    def routes(self) -> Sequence[Route]:
        return (
            Route("GET", "/flags", self.flags),
            Route("POST", "/flags/{name}", self.switch),
            Route("GET", "/analytics", self.analytics),
            Route("GET", "/audit", self.audit),
        )

    async def flags(self, _: Visit) -> Answer:
        return Page("flags.html", {"rows": await self._flags.list()})

    async def switch(self, visit: Visit) -> Answer:
        name, to, percent = (
            visit.request.match_info["name"],
            visit.text("to"),
            visit.whole("percent"),
        )
        if to not in {"on", "off"}:
            raise Problem(HTTPStatus.BAD_REQUEST, "A switch goes on or off.")
        if percent is not None and percent > WHOLE:
            raise Problem(HTTPStatus.BAD_REQUEST, "A share is 0 to 100 percent of the contacts.")
        await self._flags.turn(name, enabled=to == "on", rollout_percent=percent)
        share = "" if percent is None else f" {percent} %"
        return Done("/dashboard/flags", "switch", 1, f"{name} {to}{share}")

    async def analytics(self, visit: Visit) -> Answer:
        by = visit.text("by") or "hour"
        if by not in BY:
            raise Problem(HTTPStatus.BAD_REQUEST, f"Figures are by {', '.join(BY)}.")
        rows = await self._operations.figures()
        hours = sorted({row["hour"] for row in rows})
        context = {
            "figures": [figure(name, rows, hours) for name in SERIES],
            "hours": len(hours),
            "by": by,
            "ways": BY,
            "lines": lines(rows, by),
        }
        return Page("analytics.html", context)

    async def audit(self, visit: Visit) -> Answer:
        rows = await self._store.audit(limit=ROWS, before=visit.whole("before"))
        further = rows[-1]["id"] if len(rows) == ROWS else None
        return Page("audit.html", {"rows": rows, "further": further})


def figure(name: str, rows: Sequence[Mapping[str, Any]], hours: Sequence[Any]) -> Mapping[str, Any]:
    found: dict[Any, float] = {}
    for row in rows:
        if row["name"] == name:
            found[row["hour"]] = found.get(row["hour"], 0.0) + row["value"]
    values = [found.get(hour, 0.0) for hour in hours]
    return {"name": SERIES[name], "sum": sum(values), "chart": chart(values, [], slots=HOURS)}
