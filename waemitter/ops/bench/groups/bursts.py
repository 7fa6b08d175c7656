"""Bursts of many customers at once, a service that answers them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Final

from waemitter.ops.bench.bars import MEGABYTE, Bar, bar
from waemitter.ops.bench.bursts.talking import Talked, talk
from waemitter.ops.bench.groups.group import Told
from waemitter.ops.bench.plan import Plan
from waemitter.ops.bench.site import Site


class Bursts:
    name: Final = "bursts"

    def __init__(self) -> None:
        self._talked: list[Talked] = []

    async def measure(self, on: Site, plan: Plan, told: Told) -> None:
        """Once: it takes as long as the customers do."""
        told(f"bursts: {plan.conversations:,} customers, {plan.begun:g} of them a second")
        self._talked.append(await talk(on, conversations=plan.conversations, rate=plan.begun))

    def bars(self) -> Sequence[Bar]:
        runs = self._talked
        name = "bursts" if not runs else f"bursts, {runs[0].conversations:,} conversations"
        strays = [run.strays + run.refused for run in runs]
        return [
            bar(f"{name}: begun", "a second", [run.rate for run in runs]),
            bar(f"{name}: not one each", "", [run.wrong for run in runs], at_most=0),
            bar(f"{name}: answers doubled, missing", "", strays, at_most=0),
            bar(f"{name}: late, p50", "ms", [run.late_p50_ms for run in runs]),
            bar(f"{name}: late, p99", "ms", [run.late_p99_ms for run in runs], at_most=250),
            bar(f"{name}: late, most", "ms", [run.late_most_ms for run in runs]),
            bar(f"{name}: RSS", "MB", [run.resident / MEGABYTE for run in runs], at_most=250),
            bar(f"{name}: CPU", "µs each", [run.cpu_us for run in runs]),
        ]

    def runs(self) -> dict[str, Any]:
        return {"talked": [asdict(run) for run in self._talked]}
