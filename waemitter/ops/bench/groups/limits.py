"""A daemon within a limit: start, idle, pickup, and the limit itself, kept by one and by several."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict
from typing import Any, Final

from waemitter.ops.bench.bars import MEGABYTE, Bar, bar
from waemitter.ops.bench.cloud import Cloud
from waemitter.ops.bench.groups.group import Told
from waemitter.ops.bench.idle import Idled, idle
from waemitter.ops.bench.inserts import Inserted, inserts
from waemitter.ops.bench.pace import Paced, pace
from waemitter.ops.bench.peers.catalogue import GRAPHILE, installed
from waemitter.ops.bench.peers.idle_worker import peer_pickup
from waemitter.ops.bench.pickup import PickedUp, pickup
from waemitter.ops.bench.plan import Plan
from waemitter.ops.bench.site import Site

LIMIT: Final = 80.0  # messages a second: what Meta gives a new number


class Limits:
    name: Final = "limits"

    def __init__(self) -> None:
        self._started: list[float] = []
        self._idled: list[Idled] = []
        self._picked_up: list[PickedUp] = []
        self._graphile: list[PickedUp] = []
        self._paced: dict[tuple[float, int], list[Paced]] = {}  # by limit and daemons
        self._inserted: list[Inserted] = []

    async def measure(self, on: Site, plan: Plan, told: Told) -> None:
        wanted = [GRAPHILE] if GRAPHILE in plan.peers else []
        beside = bool(installed(wanted, told))
        async with on.sink() as cloud:
            for n in range(plan.runs):
                told(
                    f"a daemon with a limit: start, idle, pickup, pace, inserts; run {n + 1} of {plan.runs}"
                )
                await self._alone(on, cloud, plan)
                if beside:
                    self._graphile.append(await peer_pickup(on, cloud, plan.pickups))
                for limit, daemons in plan.together:
                    await self._together(on, cloud, plan, limit, daemons)

    async def _alone(self, on: Site, cloud: Cloud, plan: Plan) -> None:
        async with on.daemon(cloud.graph_url, messages_per_second=LIMIT) as daemon:
            self._started.append(daemon.started_in)
            self._idled.append(await idle(on, daemon, plan.idle))
            self._picked_up.append(await pickup(on, cloud, plan.pickups))
            paced = self._paced.setdefault((LIMIT, 1), [])
            paced.append(await pace(on, cloud, limit=LIMIT, seconds=plan.paced))
            for clients in plan.clients:
                self._inserted.append(
                    await inserts(on, cloud, clients=clients, seconds=plan.inserting)
                )

    async def _together(
        self, on: Site, cloud: Cloud, plan: Plan, limit: float, daemons: int
    ) -> None:
        async with AsyncExitStack() as stack:
            for _ in range(daemons):
                await stack.enter_async_context(
                    on.daemon(cloud.graph_url, messages_per_second=limit)
                )
            paced = self._paced.setdefault((limit, daemons), [])
            paced.append(await pace(on, cloud, limit=limit, seconds=plan.paced))

    def bars(self) -> Sequence[Bar]:
        up, rest = self._picked_up, self._idled
        return [
            bar("pickup p50", "ms", [run.p50_ms for run in up], at_most=2.5, peers="2.5 elsewhere"),
            bar("pickup p99", "ms", [run.p99_ms for run in up], at_most=9, peers="8.9 elsewhere"),
            *self._beside_graphile(),
            bar("… from INSERT, p50", "ms", [run.from_insert_p50_ms for run in up]),
            bar("… from INSERT, p99", "ms", [run.from_insert_p99_ms for run in up]),
            bar("start to ready", "s", self._started, at_most=1.75),
            bar(
                "idle: statements",
                "a second",
                [run.statements_per_second for run in rest],
                at_most=1,
            ),
            bar("idle: CPU", "% of a core", [run.cpu * 100 for run in rest], at_most=1),
            bar("idle: RSS", "MB", [run.resident / MEGABYTE for run in rest], at_most=100),
            *self._pace_bars(),
            *self._insert_bars(),
        ]

    def _beside_graphile(self) -> list[Bar]:
        """A quiet machine's milliseconds say little on another: what binds is who is quicker in the same run."""
        other = self._graphile
        if not other:
            return []
        both = list(zip(self._picked_up, other, strict=True))
        return [
            bar(f"… {GRAPHILE}, p50", "ms", [run.p50_ms for run in other]),
            bar(f"… {GRAPHILE}, p99", "ms", [run.p99_ms for run in other]),
            bar("… ratio, p50", "", [ours.p50_ms / run.p50_ms for ours, run in both], at_most=1),
            bar("… ratio, p99", "", [ours.p99_ms / run.p99_ms for ours, run in both], at_most=1),
        ]

    def _pace_bars(self) -> list[Bar]:
        bars: list[Bar] = []
        for (limit, daemons), runs in self._paced.items():
            name = f"limit {limit:,.0f}/s" + (f", {daemons} daemons" if daemons > 1 else "")
            bars += [
                bar(f"{name}: peak", "a second", [run.peak for run in runs], at_most=limit),
                bar(f"{name}: used", "%", [run.used * 100 for run in runs], at_least=95),
            ]
        return bars

    def _insert_bars(self) -> list[Bar]:
        bars: list[Bar] = []
        for clients in dict.fromkeys(run.clients for run in self._inserted):
            same = [run for run in self._inserted if run.clients == clients]
            name = f"INSERT, {clients} client{'s' if clients > 1 else ''}"
            ratios = [run.with_triggers / run.without for run in same]
            bars += [
                bar(f"{name}: with triggers", "a second", [run.with_triggers for run in same]),
                bar(f"{name}: without (pgbench)", "a second", [run.without for run in same]),
                bar(
                    f"{name}: ratio",
                    "",
                    ratios,
                    at_least=0.85,
                    peers="always notifying: 0.82 to 0.94" if clients == 1 else "0.22 to 0.29",
                ),
            ]
        return bars

    def runs(self) -> dict[str, Any]:
        return {
            "started": self._started,
            "idled": [asdict(run) for run in self._idled],
            "picked_up": [asdict(run) for run in self._picked_up],
            "graphile_worker_picked_up": [asdict(run) for run in self._graphile],
            "paced": {
                f"{limit:.0f}/s, {daemons}": [asdict(run) for run in runs]
                for (limit, daemons), runs in self._paced.items()
            },
            "inserted": [asdict(run) for run in self._inserted],
        }
