"""How much of everything the suite measures."""

from __future__ import annotations

from dataclasses import dataclass

from waemitter.ops.bench.isolation import TROUBLES
from waemitter.ops.bench.peers.catalogue import PEERS


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How much of each, `runs` times. Durations in seconds; `only`: the names of the groups, empty = all."""

    runs: int = 3
    only: tuple[str, ...] = ()
    messages: int = 20_000
    pickups: int = 200
    idle: float = 20.0
    paced: float = 22.0
    together: tuple[tuple[float, int], ...] = (
        (80.0, 3),
        (1000.0, 1),
        (1000.0, 3),
    )  # limit, daemons
    inserting: int = 5
    clients: tuple[int, ...] = (1, 32)
    latencies: tuple[float, ...] = (0.0, 0.1)
    peers: tuple[str, ...] = tuple(PEERS)
    steady: float = 10.0
    troubles: tuple[str, ...] = TROUBLES
    rows: int = 1_000_000
    lane: int = 100_000
    listed: int = 100_000  # recipients of a campaign
    queued: int = 1_000_000  # while the daemon's memory is measured
    holding: float = 15.0
    hearing: float = 10.0  # seconds of webhooks at their steady rate
    webhooks: int = 20_000  # of each ceiling
    statuses: int = 30_000
    turns: int = 200  # at once
    model_latency: float = 2.0
    viewers: int = 20
    viewing: float = 10.0
    looks: int = 20  # at the dashboard's pages, changes and /metrics,
    apart: float = 1.1  # seconds between two
    conversations: int = 10_000  # of bursts,
    begun: float = 100.0  # so many in a second
