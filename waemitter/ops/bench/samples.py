"""Many measurements of one thing, told by a few of them."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import NamedTuple


class Spread(NamedTuple):
    """The median of several runs, and the two ends."""

    median: float
    least: float
    most: float


def spread(runs: Sequence[float]) -> Spread:
    return Spread(median(runs), min(runs), max(runs))


def percentile(samples: Sequence[float], share: float) -> float:
    """The sample that a `share` of all do not exceed (nearest rank); NaN for none."""
    if not samples:
        return float("nan")
    ranked = sorted(samples)
    return ranked[max(0, -(-len(ranked) * int(share * 1000) // 1000) - 1)]
