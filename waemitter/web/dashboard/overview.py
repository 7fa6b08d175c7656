"""The first page: how it goes right now. The queue's depth is what the reconciler counted last, so nothing is counted here."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from waemitter.errors import DatabaseUnreachable
from waemitter.observe.metrics import Metrics
from waemitter.web.dashboard.cached import Cached
from waemitter.web.dashboard.charts import chart
from waemitter.web.dashboard.pulse import SAMPLE_EVERY, SAMPLES, Pulse, values
from waemitter.web.dashboard.store import DashboardStore
from waemitter.web.dashboard.visit import Page, Route, Visit

SLOW_GOOD_FOR: Final = 5.0
PATIENCE: Final = 3.0
"""Seconds after which the page shows what is in memory alone."""
WAITING: Final = ("queued", "sending", "unconfirmed", "held")


class Told(NamedTuple):
    """What the database says."""

    channels: Sequence[dict[str, Any]]
    errors: Sequence[dict[str, Any]]
    sizes: Mapping[str, int]


class Overview:
    def __init__(
        self, store: DashboardStore, metrics: Metrics, pulse: Pulse, *, clock: Callable[[], float]
    ) -> None:
        self._metrics = metrics
        self._pulse = pulse
        self._channels = store.channels
        self._errors = Cached(store.errors, lasts=SLOW_GOOD_FOR, clock=clock)
        self._sizes = Cached(store.sizes, lasts=60.0, clock=clock)

    def routes(self) -> Sequence[Route]:
        return (Route("GET", "", self.show),)

    async def show(self, _: Visit) -> Page:
        told = await self._told()
        depth = values(self._metrics.outbox_messages)
        ages = values(self._metrics.outbox_oldest_due_age)
        tokens = values(self._metrics.rate_limit_tokens)
        names = sorted({channel for channel, _ in depth})
        known = {row["name"]: row for row in told.channels} if told else {}
        lanes: list[dict[str, Any]] = [
            {
                "name": name,
                **{status: depth.get((name, status), 0.0) for status in WAITING},
                "age": ages.get((name,), 0.0),
                "free": tokens.get((name,)),
                "row": known.get(name),
            }
            for name in names
        ]
        samples = list(self._pulse.samples)
        letters = values(self._metrics.dead_letters)
        recent = samples[-12:]
        context = {
            "told": told,
            "lanes": lanes,
            "most": max((sum(lane[status] for status in WAITING) for lane in lanes), default=0.0),
            "waiting": sum(lane[status] for lane in lanes for status in WAITING),
            "unconfirmed": sum(lane["unconfirmed"] for lane in lanes),
            "oldest": max((lane["age"] for lane in lanes), default=0.0),
            "totals": self._pulse.totals(),
            "rate": sum(sample.sent for sample in recent) / len(recent) if recent else 0.0,
            "chart": chart(
                [sample.sent for sample in samples],
                [sample.failed for sample in samples],
                slots=SAMPLES,
            ),
            "minutes": round(SAMPLES * SAMPLE_EVERY / 60),
            "letters": sum(
                count
                for (_, status), count in letters.items()
                if status in {"pending", "abandoned"}
            ),
            "listening": values(self._metrics.listener_connected)[()] == 1,
        }
        return Page("overview.html", context)

    async def _told(self) -> Told | None:
        try:
            async with asyncio.timeout(PATIENCE):
                return Told(
                    await self._channels(), await self._errors.get(), await self._sizes.get()
                )
        except (DatabaseUnreachable, TimeoutError):
            return None
