"""How fast a full queue empties: through the daemon, the bare pipeline and the peers, one after the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

from waemitter.ops.bench.bars import Bar, bar
from waemitter.ops.bench.cloud import Cloud
from waemitter.ops.bench.drain import Bare, Drained, PeerDrained, bare, drain, peer
from waemitter.ops.bench.groups.group import Told
from waemitter.ops.bench.peers.catalogue import PEERS, installed
from waemitter.ops.bench.plan import Plan
from waemitter.ops.bench.site import UNLIMITED, Site

CONNECTIONS: Final = {0.0: 64, 0.1: 1000}  # of the bare pipeline, by the cloud's latency in seconds
# Beside those of this run: docs/benchmarks.md.
ELSEWHERE: Final = {
    0.0: "pg-boss 2,179; graphile-worker 1,674",
    0.1: "pg-boss 1,932; graphile-worker 1,646",
}
BARE_ELSEWHERE: Final = {0.0: "8,614 on a quiet one", 0.1: "3,832 on a quiet one"}
BARE_CPU_ELSEWHERE: Final = {0.0: "119 on a quiet one", 0.1: "258 on a quiet one"}


class Drains:
    name: Final = "drain"

    def __init__(self) -> None:
        self._drained: dict[float, list[Drained]] = {}
        self._bare: dict[float, list[Bare]] = {}
        self._peers: dict[float, dict[str, list[PeerDrained]]] = {}

    async def measure(self, on: Site, plan: Plan, told: Told) -> None:
        peers = installed(plan.peers, told)
        for latency in plan.latencies:
            async with on.sink(latency=latency) as cloud:
                for n in range(plan.runs):
                    told(
                        f"a full queue, answers after {latency * 1000:.0f} ms; run {n + 1} of {plan.runs}"
                    )
                    await self._each(on, cloud, plan, latency, peers)

    async def _each(
        self, on: Site, cloud: Cloud, plan: Plan, latency: float, peers: Sequence[str]
    ) -> None:
        async with on.daemon(cloud.graph_url, messages_per_second=UNLIMITED) as daemon:
            drained = await drain(on, cloud, daemon, plan.messages)
        self._drained.setdefault(latency, []).append(drained)
        connections = CONNECTIONS[latency]
        beside = await bare(on, cloud, plan.messages, connections=connections)
        self._bare.setdefault(latency, []).append(beside)
        for name in peers:
            told = await peer(on, cloud, PEERS[name], latency=latency, messages=plan.messages)
            self._peers.setdefault(latency, {}).setdefault(name, []).append(told)

    def bars(self) -> Sequence[Bar]:
        return [
            each
            for latency, drained in self._drained.items()
            for each in _bars(latency, drained, self._bare[latency], self._peers.get(latency, {}))
        ]

    def runs(self) -> dict[str, Any]:
        return {
            f"{latency * 1000:.0f} ms": {
                "daemon": [asdict(run) for run in drained],
                "bare": [asdict(run) for run in self._bare[latency]],
                "peers": {
                    name: [asdict(run) for run in runs]
                    for name, runs in self._peers.get(latency, {}).items()
                },
            }
            for latency, drained in self._drained.items()
        }


def _bars(
    latency: float,
    drained: Sequence[Drained],
    beside: Sequence[Bare],
    peers: Mapping[str, Sequence[PeerDrained]],
) -> list[Bar]:
    name = f"drain, {latency * 1000:.0f} ms"
    rates = [run.rate for run in drained]
    bare_rates = [run.rate for run in beside]
    ratios = [rate / other for rate, other in zip(rates, bare_rates, strict=True)]
    strays = [run.lost + run.doubled for run in drained]
    bars = [
        bar(f"{name}: daemon", "a second", rates, at_least=_wanted(latency)),
        bar(f"{name}: bare", "a second", bare_rates, peers=BARE_ELSEWHERE.get(latency, "")),
        bar(f"{name}: ratio", "", ratios, at_least=0.8 if latency else 0.75),
        *(
            bar(f"{name}: {other}", "a second", [run.rate for run in runs])
            for other, runs in peers.items()
        ),
    ]
    documented = [runs for name, runs in peers.items() if not PEERS[name].together]
    if documented:
        fastest = max(documented, key=lambda runs: max(run.rate for run in runs))
        leads = [rate / run.rate for rate, run in zip(rates, fastest, strict=True)]
        elsewhere = ELSEWHERE.get(latency, "")
        bars.append(
            bar(f"{name}: to the fastest peer", "times", leads, at_least=2, peers=elsewhere)
        )
    return [
        *bars,
        bar(f"{name}: lost, doubled", "", strays, at_most=0),
        bar(f"{name}: daemon's CPU", "µs each", [run.cpu_us for run in drained]),
        bar(
            f"{name}: bare CPU",
            "µs each",
            [run.cpu_us for run in beside],
            peers=BARE_CPU_ELSEWHERE.get(latency, ""),
        ),
        *(
            bar(f"{name}: {other}'s CPU", "µs each", [run.cpu_us for run in runs])
            for other, runs in peers.items()
        ),
        bar(f"{name}: statements", "each", [run.statements for run in drained], at_most=0.1),
        bar(f"{name}: WAL", "bytes each", [run.wal_bytes for run in drained], at_most=2500),
    ]


def _wanted(latency: float) -> float:
    """Messages a second on a quiet machine of two cores."""
    return 3000.0 if latency else 4000.0
