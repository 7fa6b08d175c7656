"""Which peers there are, with what, and how much of the work each is given."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from waemitter.ops.bench.peers import nodejs


@dataclass(frozen=True, slots=True)
class Peer:
    """`share` of the messages: the slow ones get fewer. `connections` by the cloud's latency in seconds.

    `node`: it runs on Node, and its package is npm's.
    """

    module: str
    package: str
    share: float = 1.0
    connections: Mapping[float, int] = field(default_factory=lambda: {0.0: 100, 0.1: 400})
    together: bool = False
    node: bool = False


GRAPHILE: Final = "graphile-worker"
PEERS: Final[Mapping[str, Peer]] = {
    "pgqueuer": Peer("pgqueuer_worker", "pgqueuer"),
    "pgqueuer, by an expert": Peer(
        "pgqueuer_worker", "pgqueuer", connections={0.0: 800, 0.1: 800}, together=True
    ),
    "procrastinate": Peer(
        "procrastinate_worker", "procrastinate", share=0.1, connections={0.0: 30, 0.1: 100}
    ),
    GRAPHILE: Peer("graphile_worker", GRAPHILE, node=True),
    "pg-boss": Peer("pg_boss_worker", "pg-boss", connections={0.0: 400, 0.1: 400}, node=True),
}
"""By an expert: wamids are stored two hundred in a statement, with twice the batch and the concurrency."""


def installed(names: Sequence[str], told: Callable[[str], None]) -> Sequence[str]:
    """Those of them that can run here; of the others it is told."""
    return [name for name in names if _there(name, told)]


def _there(name: str, told: Callable[[str], None]) -> bool:
    if PEERS[name].node:
        try:
            nodejs.folder()
        except nodejs.NoNode as reason:
            told(f"{name} is not measured: {reason}")
            return False
        return True
    if importlib.util.find_spec(PEERS[name].package) is None:
        told(f"{name} is not measured: pip install 'waemitter[bench]'")
        return False
    return True
