"""Agents: how each did today, what it used, and why it had no answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from waemitter.web.dashboard.operations.store import OperationsStore
from waemitter.web.dashboard.visit import Answer, Page, Route, Visit


class Agents:
    def __init__(self, store: OperationsStore, *, configured: Mapping[str, int | None]) -> None:
        """`configured`: the agents of the settings, each with its tokens for a day, None = no limit."""
        self._store = store
        self._configured = configured

    def routes(self) -> Sequence[Route]:
        return (Route("GET", "/agents", self.show),)

    async def show(self, _: Visit) -> Answer:
        rows = await self._store.agents()
        used = {row["agent"]: row["tokens"] for row in await self._store.agent_usage()}
        names = sorted({*self._configured, *used, *(row["agent"] for row in rows)})
        agents = [
            {
                "name": name,
                "used": used.get(name, 0),
                "limit": self._configured.get(name),
                "known": name in self._configured,
                "variants": [row for row in rows if row["agent"] == name],
            }
            for name in names
        ]
        failures = await self._store.agent_failures() if names else ()
        return Page("agents.html", {"agents": agents, "failures": failures})
