"""Webhooks: a steady rate, the ceilings, statuses applied."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Final

from waemitter.ops.bench.bars import MEGABYTE, Bar, bar
from waemitter.ops.bench.groups.group import Told
from waemitter.ops.bench.groups.limits import LIMIT
from waemitter.ops.bench.plan import Plan
from waemitter.ops.bench.site import Site
from waemitter.ops.bench.webhooks.hearing import Applied, Ceiling, Heard, applied, ceiling, hear

WEBHOOKS: Final = 1000.0  # a second: as many as Meta's largest number sends messages


class Hearing:
    name: Final = "webhooks"

    def __init__(self) -> None:
        self._heard: list[Heard] = []
        self._ceilings: list[Ceiling] = []
        self._applied: list[Applied] = []

    async def measure(self, on: Site, plan: Plan, told: Told) -> None:
        async with on.sink() as cloud:
            for n in range(plan.runs):
                told(f"webhooks: a steady rate, the ceilings, statuses; run {n + 1} of {plan.runs}")
                async with on.daemon(cloud.graph_url, messages_per_second=LIMIT) as daemon:
                    self._heard.append(await hear(on, daemon, rate=WEBHOOKS, seconds=plan.hearing))
                    self._ceilings.append(await ceiling(on, daemon, plan.webhooks))
                    self._applied.append(await applied(on, plan.statuses))

    def bars(self) -> Sequence[Bar]:
        heard, most = self._heard, self._ceilings
        name = f"webhooks, {WEBHOOKS:,.0f}/s"
        strays = [run.refused + run.missing for run in heard]
        return [
            bar(f"{name}: answered, p50", "ms", [run.p50_ms for run in heard], at_most=5),
            bar(f"{name}: answered, p99", "ms", [run.p99_ms for run in heard], at_most=50),
            bar(f"{name}: refused, missing", "", strays, at_most=0),
            bar(f"{name}: splitter's lag", "s", [run.lag for run in heard]),
            bar(f"{name}: RSS", "MB", [run.resident / MEGABYTE for run in heard], at_most=200),
            bar(f"{name}: CPU", "µs each", [run.cpu_us for run in heard]),
            bar("webhooks, ceiling: daemon", "a second", [run.daemon for run in most]),
            bar("webhooks, ceiling: bare", "a second", [run.bare for run in most]),
            bar(
                "webhooks, ceiling: ratio", "", [run.daemon / run.bare for run in most], at_least=2
            ),
            bar("… bare group commit", "a second", [run.together for run in most]),
            bar("… splitter's lag", "s", [run.lag for run in most]),
            bar("… daemon's CPU", "µs each", [run.daemon_cpu_us for run in most]),
            bar("… bare CPU", "µs each", [run.bare_cpu_us for run in most]),
            bar("… bare group commit's CPU", "µs each", [run.together_cpu_us for run in most]),
            bar("statuses applied", "a second", [run.rate for run in self._applied], at_least=3000),
            bar("statuses applied: wrong", "", [run.wrong for run in self._applied], at_most=0),
        ]

    def runs(self) -> dict[str, Any]:
        return {
            "heard": [asdict(run) for run in self._heard],
            "ceilings": [asdict(run) for run in self._ceilings],
            "applied": [asdict(run) for run in self._applied],
        }
