"""A steady rate, and one channel beside another in trouble."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Final

from waemitter.ops.bench.bars import MEGABYTE, Bar, bar
from waemitter.ops.bench.groups.group import Told
from waemitter.ops.bench.isolation import Isolated, isolation
from waemitter.ops.bench.plan import Plan
from waemitter.ops.bench.site import UNLIMITED, Site
from waemitter.ops.bench.steady import Steady, steady

RATE: Final = 1000.0  # messages a second: Meta's largest number


class UnderLoad:
    name: Final = "load"

    def __init__(self) -> None:
        self._steady: list[Steady] = []
        self._isolated: list[Isolated] = []

    async def measure(self, on: Site, plan: Plan, told: Told) -> None:
        for n in range(plan.runs):
            told(f"a steady rate, and two channels; run {n + 1} of {plan.runs}")
            async with (
                on.sink(latency=0.1) as cloud,
                on.daemon(cloud.graph_url, messages_per_second=UNLIMITED) as daemon,
            ):
                self._steady.append(await steady(on, cloud, daemon, rate=RATE, seconds=plan.steady))
            async with on.sink() as cloud:
                self._isolated.append(await isolation(on, cloud, plan.messages, plan.troubles))

    def bars(self) -> Sequence[Bar]:
        name, runs = f"steady {RATE:,.0f}/s, 100 ms", self._steady
        return [
            bar(f"{name}: arrived", "a second", [run.rate for run in runs]),
            bar(f"{name}: CPU", "% of a core", [run.cpu * 100 for run in runs], at_most=45),
            bar(f"{name}: RSS", "MB", [run.resident / MEGABYTE for run in runs]),
            *(
                bar(
                    f"beside a {trouble} channel",
                    "% left",
                    [run.share(trouble) * 100 for run in self._isolated],
                    at_least=95,
                )
                for trouble in self._troubles()
            ),
        ]

    def _troubles(self) -> Sequence[str]:
        return [trouble for run in self._isolated[:1] for trouble in run.rates if trouble != "none"]

    def runs(self) -> dict[str, Any]:
        return {
            "steady": [asdict(run) for run in self._steady],
            "isolated": [asdict(run) for run in self._isolated],
        }
