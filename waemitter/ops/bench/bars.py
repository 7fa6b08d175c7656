"""What waemitter has set itself, beside what was measured and what its peers reach.

Peers that run here (`peers/`) are measured in the same run. The figures in words are of others, or of a quieter machine of the
same kind, 2 shared vCPU, with the same work: the medians of three runs; docs/benchmarks.md tells the method.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from typing_extensions import override

from waemitter.ops.bench.samples import Spread, spread

MEGABYTE: Final = 1e6  # bytes


@dataclass(frozen=True, slots=True)
class Bar:
    """`at_most` or `at_least` is what is wanted of the median; neither: told for information."""

    name: str
    unit: str
    measured: Spread
    at_most: float | None = None
    at_least: float | None = None
    peers: str = ""

    @property
    def wanted(self) -> str:
        if self.at_most is not None:
            return f"≤ {self.at_most:,.6g}"
        return f"≥ {self.at_least:,.6g}" if self.at_least is not None else ""

    @property
    def met(self) -> bool | None:
        """None where nothing is wanted."""
        if self.at_most is not None:
            return self.measured.median <= self.at_most
        return self.measured.median >= self.at_least if self.at_least is not None else None

    @override
    def __str__(self) -> str:
        mark = {True: " (met)", False: f" (MISSED: {self.wanted})", None: ""}[self.met]
        return f"{self.name}: {self.measured.median:,.6g} {self.unit}".rstrip() + mark

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "name": self.name,
            "unit": self.unit,
            "wanted": self.wanted or None,
            "met": self.met,
            **self.measured._asdict(),
            "peers": self.peers or None,
        }


def bar(
    name: str,
    unit: str,
    runs: Sequence[float],
    *,
    at_most: float | None = None,
    at_least: float | None = None,
    peers: str = "",
) -> Bar:
    return Bar(name, unit, spread(runs), at_most, at_least, peers)
