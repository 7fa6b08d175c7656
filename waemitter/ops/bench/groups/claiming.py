"""What a claim costs beside a million rows, and behind what must be tidied first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Final

from waemitter.ops.bench.bars import Bar, bar
from waemitter.ops.bench.claims import Claimed, claims
from waemitter.ops.bench.groups.group import Told
from waemitter.ops.bench.plan import Plan
from waemitter.ops.bench.site import Site


class Claiming:
    name: Final = "claims"

    def __init__(self) -> None:
        self._claimed: list[Claimed] = []

    async def measure(self, on: Site, plan: Plan, told: Told) -> None:
        told(f"claims beside {plan.rows:,} rows, at a lane and at a campaign of {plan.lane:,}")
        self._claimed.append(await claims(on, rows=plan.rows, lane=plan.lane))

    def bars(self) -> Sequence[Bar]:
        runs = self._claimed
        ratios = [run.many_p99_ms / run.few_p99_ms for run in runs]
        return [
            bar("claim of 100, few rows: p99", "ms", [run.few_p99_ms for run in runs]),
            bar("claim of 100, many rows: p99", "ms", [run.many_p99_ms for run in runs]),
            bar("claim of 100: many to few", "", ratios, at_most=2),
            bar("claims at a long lane: p50", "ms", [run.lane_p50_ms for run in runs]),
            bar("claims at a long lane: p95", "ms", [run.lane_p95_ms for run in runs], at_most=100),
            bar("claims at a long lane: most", "ms", [run.lane_most_ms for run in runs]),
            bar(
                "claims at a capped campaign: p95",
                "ms",
                [run.cap_p95_ms for run in runs],
                at_most=100,
            ),
        ]

    def runs(self) -> dict[str, Any]:
        return {"claimed": [asdict(run) for run in self._claimed]}
