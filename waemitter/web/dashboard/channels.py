"""The numbers: their limits, what Meta thinks of them, and the switch that stops one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf

from waemitter.outbox.channels.store import ChannelStore
from waemitter.web.dashboard.store import DashboardStore
from waemitter.web.dashboard.visit import Answer, Done, Page, Route, Visit


class Channels:
    def __init__(
        self, store: DashboardStore, channels: ChannelStore, *, ring: Callable[[], None]
    ) -> None:
        """`ring` wakes the senders."""
        self._store = store
        self._channels = channels
        self._ring = ring

    def routes(self) -> Sequence[Route]:
        return (
            Route("GET", "/channels", self.list),
            Route("POST", "/channels/{name}/pause", self.pause),
            Route("POST", "/channels/{name}/resume", self.resume),
        )

    async def list(self, _: Visit) -> Answer:
        return Page("channels.html", {"rows": await self._store.channels()})

    async def pause(self, visit: Visit) -> Answer:
        name = visit.request.match_info["name"]
        paused = await self._channels.pause(channel=name, seconds=inf, reason="operator")
        await self._store.tell()
        return Done("/dashboard/channels", "pause", len(paused), name)

    async def resume(self, visit: Visit) -> Answer:
        name = visit.request.match_info["name"]
        resumed = await self._channels.resume(channel=name)
        self._ring()
        await self._store.tell()
        return Done("/dashboard/channels", "resume", len(resumed), name)
