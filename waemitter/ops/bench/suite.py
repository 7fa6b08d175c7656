"""Every bar, one after the other, each several times: the median counts."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from waemitter.ops.bench.bars import Bar, bar
from waemitter.ops.bench.cloud import Cloud
from waemitter.ops.bench.drain import Bare, Drained, bare, drain
from waemitter.ops.bench.idle import Idled, idle
from waemitter.ops.bench.inserts import Inserted, inserts
from waemitter.ops.bench.isolation import TROUBLES, Isolated, isolation
from waemitter.ops.bench.pace import Paced, pace
from waemitter.ops.bench.pickup import PickedUp, pickup
from waemitter.ops.bench.site import UNLIMITED, Site, site
from waemitter.ops.bench.steady import Steady, steady
from waemitter.ops.bench.webhooks.hearing import Applied, Ceiling, Heard, applied, ceiling, hear

WEBHOOKS: Final = 1000.0  # a second: as many as Meta's largest number sends messages
LIMIT: Final = 80.0  # messages a second: what Meta gives a new number
LARGEST: Final = 1000.0  # and an upgraded one
MEGABYTE: Final = 1e6
CONNECTIONS: Final = {0.0: 64, 0.1: 1000}  # of the bare pipeline, by the cloud's latency in seconds
PEERS: Final = {0.0: "368 to 2,179; expert 3,083", 0.1: "377 to 1,932"}
PEERS_CPU: Final = {0.0: "344 to 2,012", 0.1: "487 to 2,032"}
BARE_ELSEWHERE: Final = {0.0: "8,614 on a quiet one", 0.1: "3,832 on a quiet one"}
BARE_CPU_ELSEWHERE: Final = {0.0: "119 on a quiet one", 0.1: "258 on a quiet one"}


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
    hearing: float = 10.0  # seconds of webhooks at their steady rate
    webhooks: int = 20_000  # of each ceiling
    statuses: int = 30_000


@dataclass(frozen=True, slots=True)
class Runs:
    """Every single run, as measured."""

    started: list[float] = field(default_factory=list)
    idled: list[Idled] = field(default_factory=list)
    picked_up: list[PickedUp] = field(default_factory=list)
    paced: list[Paced] = field(default_factory=list)
    inserted: list[Inserted] = field(default_factory=list)
    drained: dict[float, list[Drained]] = field(default_factory=dict)
    bare: dict[float, list[Bare]] = field(default_factory=dict)
    steady: list[Steady] = field(default_factory=list)
    isolated: list[Isolated] = field(default_factory=list)
    heard: list[Heard] = field(default_factory=list)
    ceilings: list[Ceiling] = field(default_factory=list)
    applied: list[Applied] = field(default_factory=list)


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
        for latency in plan.latencies:
            await _draining(on, latency, plan, runs, told)
        for n in range(plan.runs):
            told(f"a steady rate, and two channels; run {n + 1} of {plan.runs}")
            await _settled_and_troubled(on, plan, runs)
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
        runs.paced.append(await pace(on, cloud, limit=LIMIT, seconds=plan.paced))
        for clients in plan.clients:
            inserted = await inserts(on, cloud, clients=clients, seconds=plan.inserting)
            runs.inserted.append(inserted)


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


def bars_of(runs: Runs) -> list[Bar]:
    """The table's rows."""
    up, rest, paced = runs.picked_up, runs.idled, runs.paced
    bars = [
        bar("pickup p50", "ms", [run.p50_ms for run in up], at_most=2.5, peers="2.5"),
        bar("pickup p99", "ms", [run.p99_ms for run in up], at_most=9, peers="8.9"),
        bar("… from INSERT, p50", "ms", [run.from_insert_p50_ms for run in up]),
        bar("… from INSERT, p99", "ms", [run.from_insert_p99_ms for run in up]),
        bar("start to ready", "s", runs.started, at_most=1.75),
        bar("idle: statements", "a second", [run.statements_per_second for run in rest], at_most=1),
        bar("idle: CPU", "% of a core", [run.cpu * 100 for run in rest], at_most=1),
        bar("idle: RSS", "MB", [run.resident / MEGABYTE for run in rest], at_most=100),
        bar("limit 80/s: peak", "a second", [run.peak for run in paced], at_most=LIMIT),
        bar("limit 80/s: used", "%", [run.used * 100 for run in paced], at_least=95),
    ]
    for latency, drained in runs.drained.items():
        bars += _drain_bars(latency, drained, runs.bare[latency])
    for clients in dict.fromkeys(run.clients for run in runs.inserted):
        same = [run for run in runs.inserted if run.clients == clients]
        name = f"INSERT, {clients} client{'s' if clients > 1 else ''}"
        bars += [
            bar(f"{name}: with triggers", "a second", [run.with_triggers for run in same]),
            bar(f"{name}: without", "a second", [run.without for run in same]),
            bar(
                f"{name}: ratio",
                "",
                [run.with_triggers / run.without for run in same],
                at_least=0.85,
            ),
        ]
    return [
        *bars,
        *_steady_bars(runs.steady),
        *_isolation_bars(runs.isolated),
        *_hearing_bars(runs),
    ]


def _steady_bars(runs: Sequence[Steady]) -> list[Bar]:
    name = f"steady {LARGEST:,.0f}/s, 100 ms"
    return [
        bar(f"{name}: arrived", "a second", [run.rate for run in runs]),
        bar(f"{name}: CPU", "% of a core", [run.cpu * 100 for run in runs], at_most=45),
        bar(f"{name}: RSS", "MB", [run.resident / MEGABYTE for run in runs]),
    ]


def _isolation_bars(runs: Sequence[Isolated]) -> list[Bar]:
    return [
        bar(
            f"beside a {trouble} channel",
            "% left",
            [run.share(trouble) * 100 for run in runs],
            at_least=95,
        )
        for trouble in TROUBLES[1:]
    ]


def _hearing_bars(runs: Runs) -> list[Bar]:
    heard, most = runs.heard, runs.ceilings
    name = f"webhooks, {WEBHOOKS:,.0f}/s"
    return [
        bar(f"{name}: answered, p50", "ms", [run.p50_ms for run in heard], at_most=5),
        bar(f"{name}: answered, p99", "ms", [run.p99_ms for run in heard], at_most=50),
        bar(
            f"{name}: refused, missing", "", [run.refused + run.missing for run in heard], at_most=0
        ),
        bar(f"{name}: splitter's lag", "s", [run.lag for run in heard]),
        bar(f"{name}: RSS", "MB", [run.resident / MEGABYTE for run in heard], at_most=200),
        bar(f"{name}: CPU", "µs each", [run.cpu_us for run in heard]),
        bar("webhooks, ceiling: daemon", "a second", [run.daemon for run in most]),
        bar("webhooks, ceiling: bare", "a second", [run.bare for run in most]),
        bar("webhooks, ceiling: ratio", "", [run.daemon / run.bare for run in most], at_least=2),
        bar("… bare group commit", "a second", [run.together for run in most]),
        bar("… splitter's lag", "s", [run.lag for run in most]),
        bar("… daemon's CPU", "µs each", [run.daemon_cpu_us for run in most]),
        bar("… bare CPU", "µs each", [run.bare_cpu_us for run in most]),
        bar("… bare group commit's CPU", "µs each", [run.together_cpu_us for run in most]),
        bar("statuses applied", "a second", [run.rate for run in runs.applied], at_least=3000),
        bar("statuses applied: wrong", "", [run.wrong for run in runs.applied], at_most=0),
    ]


def _drain_bars(latency: float, drained: Sequence[Drained], beside: Sequence[Bare]) -> list[Bar]:
    name = f"drain, {latency * 1000:.0f} ms"
    ratios = [run.rate / other.rate for run, other in zip(drained, beside, strict=True)]
    strays = [run.lost + run.doubled for run in drained]
    wanted = 3000.0 if latency else 4000.0
    rates = [run.rate for run in drained]
    return [
        bar(f"{name}: daemon", "a second", rates, at_least=wanted, peers=PEERS[latency]),
        bar(
            f"{name}: bare", "a second", [run.rate for run in beside], peers=BARE_ELSEWHERE[latency]
        ),
        bar(f"{name}: ratio", "", ratios, at_least=0.8 if latency else 0.75),
        bar(f"{name}: lost, doubled", "", strays, at_most=0),
        bar(
            f"{name}: daemon's CPU",
            "µs each",
            [run.cpu_us for run in drained],
            peers=PEERS_CPU[latency],
        ),
        bar(
            f"{name}: bare CPU",
            "µs each",
            [run.cpu_us for run in beside],
            peers=BARE_CPU_ELSEWHERE[latency],
        ),
        bar(f"{name}: statements", "each", [run.statements for run in drained]),
        bar(f"{name}: WAL", "bytes each", [run.wal_bytes for run in drained]),
    ]


def _machine() -> dict[str, Any]:
    """The load average is of before the bench: what others do with these processors."""
    return {
        "processors": os.cpu_count(),
        "architecture": platform.machine(),
        "system": platform.system(),
        "python": platform.python_version(),
        "load_average": os.getloadavg()[0],
    }
