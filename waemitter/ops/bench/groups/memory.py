"""How much memory a daemon takes with a long queue before it and a thousand requests in flight."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from waemitter.ops.bench.bars import MEGABYTE, Bar, bar
from waemitter.ops.bench.groups.group import Told
from waemitter.ops.bench.plan import Plan
from waemitter.ops.bench.site import UNLIMITED, Site

IN_FLIGHT: Final = 1000
LATENCY: Final = 1.0  # seconds: what fills a thousand connections at a thousand messages a second
LOOK_EVERY: Final = 0.1  # seconds


@dataclass(frozen=True, slots=True)
class Held:
    """`resident`: the most bytes of memory; `connections`: the most at once."""

    queued: int
    seconds: float
    connections: int
    resident: int


class Memory:
    name: Final = "memory"

    def __init__(self) -> None:
        self._held: list[Held] = []

    async def measure(self, on: Site, plan: Plan, told: Told) -> None:
        told(f"memory, with {plan.queued:,} messages queued and {IN_FLIGHT:,} in flight")
        await on.store.clear()
        await on.store.backlog(plan.queued)
        async with (
            on.sink(latency=LATENCY) as cloud,
            on.daemon(cloud.graph_url, messages_per_second=UNLIMITED) as daemon,
        ):
            resident = 0
            for _ in range(int(plan.holding / LOOK_EVERY)):
                await asyncio.sleep(LOOK_EVERY)
                resident = max(resident, daemon.meter.resident())
            connections = (await cloud.report()).most_connections or 0
        self._held.append(Held(plan.queued, plan.holding, connections, resident))
        await on.store.clear()

    def bars(self) -> Sequence[Bar]:
        name, runs = f"{sum(run.queued for run in self._held[:1]):,} queued", self._held
        return [
            bar(f"{name}: in flight", "", [run.connections for run in runs]),
            bar(f"{name}: RSS", "MB", [run.resident / MEGABYTE for run in runs], at_most=200),
        ]

    def runs(self) -> dict[str, Any]:
        return {"held": [asdict(run) for run in self._held]}
