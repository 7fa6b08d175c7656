"""Every bar, one group after the other, each several times: the median counts."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from waemitter.errors import UsageError
from waemitter.ops.bench.bars import Bar
from waemitter.ops.bench.groups.bursts import Bursts
from waemitter.ops.bench.groups.claiming import Claiming
from waemitter.ops.bench.groups.drains import Drains
from waemitter.ops.bench.groups.group import Group, Told
from waemitter.ops.bench.groups.hearing import Hearing
from waemitter.ops.bench.groups.limits import Limits
from waemitter.ops.bench.groups.listing import Listing
from waemitter.ops.bench.groups.load import UnderLoad
from waemitter.ops.bench.groups.memory import Memory
from waemitter.ops.bench.groups.talking import Talking
from waemitter.ops.bench.groups.watching import Watching
from waemitter.ops.bench.plan import Plan
from waemitter.ops.bench.site import site

GROUPS: Final[Sequence[Callable[[], Group]]] = (
    Limits,
    Drains,
    UnderLoad,
    Claiming,
    Memory,
    Listing,
    Hearing,
    Bursts,
    Talking,
    Watching,
)
"""In the order in which they are measured, and stand in the table."""


@dataclass(frozen=True, slots=True)
class Report:
    """`bars`: by group; `runs`: every single one."""

    machine: dict[str, Any]
    plan: Plan
    bars: dict[str, Sequence[Bar]]
    runs: dict[str, dict[str, Any]]

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "machine": self.machine,
            "plan": asdict(self.plan),
            "bars": [
                {"group": group} | each.plain()
                for group, bars in self.bars.items()
                for each in bars
            ],
            "runs": self.runs,
        }


async def run_suite(plan: Plan, told: Told) -> Report:
    """Measure everything, or the groups that the plan names. Raises UsageError for one that there is not."""
    groups = _chosen(plan.only)
    machine = _machine()
    async with site() as on:
        for group in groups:
            await group.measure(on, plan, told)
            for (
                each
            ) in group.bars():  # at once: a run of an hour that is broken off has told something
                told(f"  {each}")
    return Report(
        machine,
        plan,
        {group.name: group.bars() for group in groups},
        {group.name: group.runs() for group in groups},
    )


def _chosen(only: Sequence[str]) -> Sequence[Group]:
    groups = [make() for make in GROUPS]
    names = [group.name for group in groups]
    if unknown := set(only).difference(names):
        raise UsageError(f"there is no group {min(unknown)!r} of bars: {', '.join(names)}")
    return [group for group in groups if not only or group.name in only]


def _machine() -> dict[str, Any]:
    """The load average is of before the bench: what others do with these processors."""
    return {
        "processors": os.cpu_count(),
        "architecture": platform.machine(),
        "system": platform.system(),
        "python": platform.python_version(),
        "load_average": os.getloadavg()[0],
    }
