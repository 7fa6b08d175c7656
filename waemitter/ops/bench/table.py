"""What was measured, run by run, and the table that is made of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from waemitter.ops.bench.bars import Bar, bar
from waemitter.ops.bench.claims import Claimed
from waemitter.ops.bench.drain import Bare, Drained
from waemitter.ops.bench.idle import Idled
from waemitter.ops.bench.inserts import Inserted
from waemitter.ops.bench.isolation import TROUBLES, Isolated
from waemitter.ops.bench.pace import Paced
from waemitter.ops.bench.pickup import PickedUp
from waemitter.ops.bench.steady import Steady
from waemitter.ops.bench.webhooks.hearing import Applied, Ceiling, Heard

WEBHOOKS: Final = 1000.0  # a second: as many as Meta's largest number sends messages
LIMIT: Final = 80.0  # messages a second: what Meta gives a new number
LARGEST: Final = 1000.0  # and an upgraded one
MEGABYTE: Final = 1e6
PEERS: Final = {0.0: "368 to 2,179; expert 3,083", 0.1: "377 to 1,932"}
PEERS_CPU: Final = {0.0: "344 to 2,012", 0.1: "487 to 2,032"}
BARE_ELSEWHERE: Final = {0.0: "8,614 on a quiet one", 0.1: "3,832 on a quiet one"}
BARE_CPU_ELSEWHERE: Final = {0.0: "119 on a quiet one", 0.1: "258 on a quiet one"}


@dataclass(frozen=True, slots=True)
class Runs:
    """Every single run, as measured."""

    started: list[float] = field(default_factory=list)
    idled: list[Idled] = field(default_factory=list)
    picked_up: list[PickedUp] = field(default_factory=list)
    paced: dict[tuple[float, int], list[Paced]] = field(
        default_factory=dict
    )  # by limit and daemons
    claimed: list[Claimed] = field(default_factory=list)
    inserted: list[Inserted] = field(default_factory=list)
    drained: dict[float, list[Drained]] = field(default_factory=dict)
    bare: dict[float, list[Bare]] = field(default_factory=dict)
    steady: list[Steady] = field(default_factory=list)
    isolated: list[Isolated] = field(default_factory=list)
    heard: list[Heard] = field(default_factory=list)
    ceilings: list[Ceiling] = field(default_factory=list)
    applied: list[Applied] = field(default_factory=list)


def bars_of(runs: Runs) -> list[Bar]:
    """The table's rows."""
    up, rest = runs.picked_up, runs.idled
    bars = [
        bar("pickup p50", "ms", [run.p50_ms for run in up], at_most=2.5, peers="2.5"),
        bar("pickup p99", "ms", [run.p99_ms for run in up], at_most=9, peers="8.9"),
        bar("… from INSERT, p50", "ms", [run.from_insert_p50_ms for run in up]),
        bar("… from INSERT, p99", "ms", [run.from_insert_p99_ms for run in up]),
        bar("start to ready", "s", runs.started, at_most=1.75),
        bar("idle: statements", "a second", [run.statements_per_second for run in rest], at_most=1),
        bar("idle: CPU", "% of a core", [run.cpu * 100 for run in rest], at_most=1),
        bar("idle: RSS", "MB", [run.resident / MEGABYTE for run in rest], at_most=100),
        *_pace_bars(runs.paced),
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
        *_claim_bars(runs.claimed),
        *_isolation_bars(runs.isolated),
        *_hearing_bars(runs),
    ]


def _pace_bars(paced: Mapping[tuple[float, int], Sequence[Paced]]) -> list[Bar]:
    bars: list[Bar] = []
    for (limit, daemons), runs in paced.items():
        name = f"limit {limit:,.0f}/s" + (f", {daemons} daemons" if daemons > 1 else "")
        bars += [
            bar(f"{name}: peak", "a second", [run.peak for run in runs], at_most=limit),
            bar(f"{name}: used", "%", [run.used * 100 for run in runs], at_least=95),
        ]
    return bars


def _claim_bars(runs: Sequence[Claimed]) -> list[Bar]:
    ratios = [run.many_p99_ms / run.few_p99_ms for run in runs]
    return [
        bar("claim of 100, few rows: p99", "ms", [run.few_p99_ms for run in runs]),
        bar("claim of 100, many rows: p99", "ms", [run.many_p99_ms for run in runs]),
        bar("claim of 100: many to few", "", ratios, at_most=2),
        bar("claims at a long lane: p50", "ms", [run.lane_p50_ms for run in runs], at_most=100),
        bar("claims at a long lane: most", "ms", [run.lane_most_ms for run in runs]),
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
