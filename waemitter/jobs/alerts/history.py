"""A daemon's figures of the last day, and what became of them. Pure."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

Series: TypeAlias = tuple[str, ...]
"""A metric's name without its prefix, then the values of its labels."""

FINE: Final = 3700.0
"""Seconds for which every snapshot is kept; of older ones, one in COARSE."""
COARSE: Final = 600.0
LONGEST: Final = 86_400.0 + COARSE


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All figures at one moment; `at` in seconds, monotonic. `buckets`: of the webhooks' durations, each by itself."""

    at: float
    values: Mapping[Series, float]
    buckets: Sequence[float] = ()


class History:
    """Snapshots in order of time; the functions look back from the newest."""

    def __init__(self) -> None:
        self._past: list[Snapshot] = []

    def add(self, snapshot: Snapshot) -> None:
        self._past.append(snapshot)
        fine = bisect_right(self._past, snapshot.at - FINE, key=_at)
        kept: list[Snapshot] = []
        for each in self._past[:fine]:
            if each.at >= snapshot.at - LONGEST and (not kept or each.at - kept[-1].at >= COARSE):
                kept.append(each)
        self._past[:fine] = kept

    def __len__(self) -> int:
        return len(self._past)

    def series(self, metric: str) -> Iterator[tuple[Series, float]]:
        """Each series of a metric: the values of its labels, and its own, now."""
        for (name, *labels), value in self._past[-1].values.items():
            if name == metric:
                yield tuple(labels), value

    def increase(self, *series: str, over: float) -> float:
        """How much a counter rose in so many seconds, or since there is a history."""
        now = self._past[-1]
        return now.values.get(series, 0.0) - self._before(over).values.get(series, 0.0)

    def least(self, *series: str, over: float) -> float | None:
        """The least that a gauge was within so many seconds; None when there is no history of that length."""
        if self._past[-1].at - self._past[0].at < over:
            return None
        start = bisect_right(self._past, self._past[-1].at - over, key=_at) - 1
        return min(each.values.get(series, 0.0) for each in self._past[start:])

    def quantile(self, q: float, bounds: Sequence[float], *, over: float) -> float | None:
        """Of the webhooks' durations of so many seconds, as Prometheus' histogram_quantile; None when there were none."""
        now, before = self._past[-1].buckets, self._before(over).buckets
        return quantile(q, bounds, [a - b for a, b in zip(now, before, strict=True)])

    def _before(self, over: float) -> Snapshot:
        found = bisect_right(self._past, self._past[-1].at - over, key=_at)
        return self._past[max(0, found - 1)]


def quantile(q: float, bounds: Sequence[float], counts: Sequence[float]) -> float | None:
    """`counts` of the buckets up to each bound, and of the one beyond the last, which counts as the last bound."""
    rank = q * sum(counts)
    if rank <= 0:
        return None
    low = seen = 0.0
    for bound, n in zip(bounds, counts, strict=False):
        if n and seen + n >= rank:
            return low + (bound - low) * (rank - seen) / n
        seen += n
        low = bound
    return low


def _at(snapshot: Snapshot) -> float:
    return snapshot.at
