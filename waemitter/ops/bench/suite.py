"""Every bar, one after the other, each several times: the median counts."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from typing import Any, Final

from waemitter.ops.bench.bars import Bar
from waemitter.ops.bench.claims import claims
from waemitter.ops.bench.cloud import Cloud
from waemitter.ops.bench.drain import bare, drain
from waemitter.ops.bench.idle import idle
from waemitter.ops.bench.inserts import inserts
from waemitter.ops.bench.isolation import isolation
from waemitter.ops.bench.pace import pace
from waemitter.ops.bench.pickup import pickup
from waemitter.ops.bench.site import UNLIMITED, Site, site
from waemitter.ops.bench.steady import steady
from waemitter.ops.bench.table import LARGEST, LIMIT, WEBHOOKS, Runs, bars_of
from waemitter.ops.bench.webhooks.hearing import applied, ceiling, hear

CONNECTIONS: Final = {0.0: 64, 0.1: 1000}  # of the bare pipeline, by the cloud's latency in seconds
TOGETHER: Final = 3  # daemons on one number


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How much of each, `runs` times. Durations in seconds."""

    runs: int = 3
    messages: int = 20_000
    pickups: int = 200
    idle: float = 20.0
    paced: float = 22.0
    inserting: int = 5
    clients: tuple[int, ...] = (1, 32)
    latencies: tuple[float, ...] = (0.0, 0.1)
    steady: float = 10.0
    rows: int = 1_000_000
    lane: int = 100_000
    hearing: float = 10.0  # seconds of webhooks at their steady rate
    webhooks: int = 20_000  # of each ceiling
    statuses: int = 30_000


@dataclass(frozen=True, slots=True)
class Report:
    machine: dict[str, Any]
    plan: Plan
    runs: Runs
    bars: Sequence[Bar]

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        runs = asdict(self.runs)
        for name in ("drained", "bare"):
            runs[name] = {f"{latency * 1000:.0f} ms": told for latency, told in runs[name].items()}
        runs["paced"] = {
            f"{limit:.0f}/s, {daemons}": told for (limit, daemons), told in runs["paced"].items()
        }
        return {
            "machine": self.machine,
            "plan": asdict(self.plan),
            "bars": [bar.plain() for bar in self.bars],
            "runs": runs,
        }


async def run_suite(plan: Plan, told: Callable[[str], None]) -> Report:
    """Measure everything; `told` hears what is being measured."""
    machine, runs = _machine(), Runs()
    async with site() as on:
        async with on.sink() as cloud:
            for n in range(plan.runs):
                told(
                    f"a daemon with a limit: start, idle, pickup, pace, inserts; run {n + 1} of {plan.runs}"
                )
                await _limited(on, cloud, plan, runs)
                await _together(on, cloud, plan, runs)
        for latency in plan.latencies:
            await _draining(on, latency, plan, runs, told)
        for n in range(plan.runs):
            told(f"a steady rate, and two channels; run {n + 1} of {plan.runs}")
            await _settled_and_troubled(on, plan, runs)
        told(f"claims beside {plan.rows:,} rows, and at a lane of {plan.lane:,}")
        runs.claimed.append(await claims(on, rows=plan.rows, lane=plan.lane))
        async with on.sink() as cloud:
            for n in range(plan.runs):
                told(f"webhooks: a steady rate, the ceilings, statuses; run {n + 1} of {plan.runs}")
                await _hearing(on, cloud, plan, runs)
    return Report(machine, plan, runs, bars_of(runs))


async def _limited(on: Site, cloud: Cloud, plan: Plan, runs: Runs) -> None:
    async with on.daemon(cloud.graph_url, messages_per_second=LIMIT) as daemon:
        runs.started.append(daemon.started_in)
        runs.idled.append(await idle(on, daemon, plan.idle))
        runs.picked_up.append(await pickup(on, cloud, plan.pickups))
        paced = runs.paced.setdefault((LIMIT, 1), [])
        paced.append(await pace(on, cloud, limit=LIMIT, seconds=plan.paced))
        for clients in plan.clients:
            inserted = await inserts(on, cloud, clients=clients, seconds=plan.inserting)
            runs.inserted.append(inserted)


async def _together(on: Site, cloud: Cloud, plan: Plan, runs: Runs) -> None:
    """One number's limit, kept by several daemons, and a large one by one and by several."""
    for limit, daemons in ((LIMIT, TOGETHER), (LARGEST, 1), (LARGEST, TOGETHER)):
        async with AsyncExitStack() as stack:
            for _ in range(daemons):
                await stack.enter_async_context(
                    on.daemon(cloud.graph_url, messages_per_second=limit)
                )
            paced = runs.paced.setdefault((limit, daemons), [])
            paced.append(await pace(on, cloud, limit=limit, seconds=plan.paced))


async def _draining(
    on: Site, latency: float, plan: Plan, runs: Runs, told: Callable[[str], None]
) -> None:
    drained = runs.drained.setdefault(latency, [])
    beside = runs.bare.setdefault(latency, [])
    async with on.sink(latency=latency) as cloud:
        for n in range(plan.runs):
            told(f"a full queue, answers after {latency * 1000:.0f} ms; run {n + 1} of {plan.runs}")
            async with on.daemon(cloud.graph_url, messages_per_second=UNLIMITED) as daemon:
                drained.append(await drain(on, cloud, daemon, plan.messages))
            connections = CONNECTIONS[latency]
            beside.append(await bare(on, cloud, plan.messages, connections=connections))


async def _settled_and_troubled(on: Site, plan: Plan, runs: Runs) -> None:
    async with (
        on.sink(latency=0.1) as cloud,
        on.daemon(cloud.graph_url, messages_per_second=UNLIMITED) as daemon,
    ):
        runs.steady.append(await steady(on, cloud, daemon, rate=LARGEST, seconds=plan.steady))
    async with on.sink() as cloud:
        runs.isolated.append(await isolation(on, cloud, plan.messages))


async def _hearing(on: Site, cloud: Cloud, plan: Plan, runs: Runs) -> None:
    async with on.daemon(cloud.graph_url, messages_per_second=LIMIT) as daemon:
        runs.heard.append(await hear(on, daemon, rate=WEBHOOKS, seconds=plan.hearing))
        runs.ceilings.append(await ceiling(on, daemon, plan.webhooks))
        runs.applied.append(await applied(on, plan.statuses))


def _machine() -> dict[str, Any]:
    """The load average is of before the bench: what others do with these processors."""
    return {
        "processors": os.cpu_count(),
        "architecture": platform.machine(),
        "system": platform.system(),
        "python": platform.python_version(),
        "load_average": os.getloadavg()[0],
    }
