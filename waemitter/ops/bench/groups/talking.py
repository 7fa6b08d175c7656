"""Turns: many customers at once, each answered by an agent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Final

from waemitter.ops.bench.bars import MEGABYTE, Bar, bar
from waemitter.ops.bench.groups.group import Told
from waemitter.ops.bench.plan import Plan
from waemitter.ops.bench.site import Site
from waemitter.ops.bench.turns.talking import Talked, talk


class Talking:
    name: Final = "turns"

    def __init__(self) -> None:
        self._talked: list[Talked] = []

    async def measure(self, on: Site, plan: Plan, told: Told) -> None:
        async with on.sink() as cloud:
            for n in range(plan.runs):
                told(
                    f"{plan.turns} turns at once, answered by an agent; run {n + 1} of {plan.runs}"
                )
                run = await talk(on, cloud, turns=plan.turns, latency=plan.model_latency)
                self._talked.append(run)

    def bars(self) -> Sequence[Bar]:
        runs = self._talked
        name = f"{runs[0].turns} turns at once" if runs else "turns at once"
        return [
            bar(f"{name}: answered, p50", "ms", [run.p50_ms for run in runs]),
            bar(f"{name}: answered, p99", "ms", [run.p99_ms for run in runs]),
            bar(
                "… beyond the model's time, p99", "ms", [run.beyond_ms for run in runs], at_most=500
            ),
            bar(
                "… of the first as many after a start", "ms", [run.first_beyond_ms for run in runs]
            ),
            bar("… lost, tried again", "", [run.stray for run in runs], at_most=0),
            bar("… RSS", "MB", [run.resident / MEGABYTE for run in runs], at_most=300),
            bar("… CPU", "ms each", [run.cpu_ms for run in runs]),
        ]

    def runs(self) -> dict[str, Any]:
        return {"talked": [asdict(run) for run in self._talked]}
