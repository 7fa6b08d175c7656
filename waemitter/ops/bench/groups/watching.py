"""The dashboard and /metrics beside a large outbox."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Final

from waemitter.ops.bench.bars import Bar, bar
from waemitter.ops.bench.dashboard.viewing import Viewed, view
from waemitter.ops.bench.groups.group import Told
from waemitter.ops.bench.groups.limits import LIMIT
from waemitter.ops.bench.plan import Plan
from waemitter.ops.bench.site import Site


class Watching:
    name: Final = "dashboard"

    def __init__(self) -> None:
        self._viewed: list[Viewed] = []

    async def measure(self, on: Site, plan: Plan, told: Told) -> None:
        told(f"the dashboard and /metrics beside {plan.rows:,} rows, {plan.viewers} viewers")
        async with (
            on.sink() as cloud,
            on.daemon(cloud.graph_url, messages_per_second=LIMIT) as daemon,
        ):
            run = await view(
                on,
                daemon,
                rows=plan.rows,
                viewers=plan.viewers,
                seconds=plan.viewing,
                looks=plan.looks,
                apart=plan.apart,
            )
        self._viewed.append(run)

    def bars(self) -> Sequence[Bar]:
        runs = self._viewed
        spoken = [run.statements_per_second for run in runs]
        asked = [run.scrape_statements for run in runs]
        return [
            bar("overview's first byte, p50", "ms", [run.first_byte_p50_ms for run in runs]),
            bar(
                "overview's first byte, p99",
                "ms",
                [run.first_byte_p99_ms for run in runs],
                at_most=50,
            ),
            bar("outbox page's first byte, p99", "ms", [run.list_p99_ms for run in runs]),
            bar("viewers: statements", "a second", spoken, at_most=10),
            bar("change to page, p50", "ms", [run.update_p50_ms for run in runs]),
            bar("change to page, p99", "ms", [run.update_p99_ms for run in runs], at_most=1000),
            bar("/metrics, p50", "ms", [run.scrape_p50_ms for run in runs]),
            bar("/metrics, p99", "ms", [run.scrape_p99_ms for run in runs], at_most=20),
            bar("/metrics: statements", "each", asked, at_most=0.1),
        ]

    def runs(self) -> dict[str, Any]:
        return {"viewed": [asdict(run) for run in self._viewed]}
