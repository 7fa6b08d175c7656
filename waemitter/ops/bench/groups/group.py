"""What the suite asks of a group of bars."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeAlias

from waemitter.ops.bench.bars import Bar
from waemitter.ops.bench.plan import Plan
from waemitter.ops.bench.site import Site

Told: TypeAlias = Callable[[str], None]
"""Hears what is being measured."""


class Group(Protocol):
    """Bars that are measured together."""

    @property
    def name(self) -> str:
        """By which it is asked for, and found in the JSON."""
        ...

    async def measure(self, on: Site, plan: Plan, told: Told) -> None:
        """Measure everything, `plan.runs` times where the medians shall count."""
        ...

    def bars(self) -> Sequence[Bar]:
        """The table's rows."""
        ...

    def runs(self) -> dict[str, Any]:
        """Every single run, as measured, for JSON."""
        ...
