"""Counters, gauges and histograms that cost a fraction of a microsecond.

prometheus_client takes a lock for every number that it changes and walks a histogram's buckets in
Python: more than everything else that is observed about a sent message. All our numbers change on
the event loop's thread, so a plain addition is enough. Registry and exposition stay its own.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import Final, Generic, TypeAlias, TypeVar

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

BOUNDS: Final = (
    *(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25),
    *(0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
)
_BOUND_LABELS: Final = (*map(str, BOUNDS), "+Inf")
_EMPTY_BUCKETS: Final = (0,) * len(_BOUND_LABELS)


class Counter:
    """Only ever rises."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0.0

    def inc(self, amount: float = 1.0) -> None:
        self.value += amount

    @staticmethod
    def family(name: str, meaning: str, labels: Sequence[str]) -> CounterMetricFamily:
        return CounterMetricFamily(name, meaning, labels=labels)

    def add_to(self, family: CounterMetricFamily, values: Sequence[str]) -> None:
        family.add_metric(values, self.value)


class Gauge:
    """Rises and falls."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0.0

    def set(self, value: float) -> None:
        self.value = value

    @staticmethod
    def family(name: str, meaning: str, labels: Sequence[str]) -> GaugeMetricFamily:
        return GaugeMetricFamily(name, meaning, labels=labels)

    def add_to(self, family: GaugeMetricFamily, values: Sequence[str]) -> None:
        family.add_metric(values, self.value)


class Histogram:
    """Seconds, counted into buckets from a millisecond to a minute."""

    __slots__ = ("_buckets", "_sum")

    def __init__(self) -> None:
        self._buckets = list(_EMPTY_BUCKETS)
        self._sum = 0.0

    def observe(self, seconds: float) -> None:
        self._buckets[bisect_left(BOUNDS, seconds)] += 1
        self._sum += seconds

    def counts(self) -> tuple[int, ...]:
        """How many fell into the bucket of each of BOUNDS, and beyond the last."""
        return tuple(self._buckets)

    @staticmethod
    def family(name: str, meaning: str, labels: Sequence[str]) -> HistogramMetricFamily:
        return HistogramMetricFamily(name, meaning, labels=labels)

    def add_to(self, family: HistogramMetricFamily, values: Sequence[str]) -> None:
        cumulative = zip(_BOUND_LABELS, accumulate(self._buckets), strict=True)
        family.add_metric(values, list(cumulative), self._sum)


Instrument: TypeAlias = Counter | Gauge | Histogram
Child = TypeVar("Child", Counter, Gauge, Histogram)


class Family(Generic[Child]):
    """One metric: a name, its meaning, label names, and a child for each combination of values."""

    __slots__ = ("_children", "_labels", "_meaning", "_name", "_new")

    def __init__(self, new: type[Child], name: str, meaning: str, *labels: str) -> None:
        self._new: type[Child] = new
        self._name = name
        self._meaning = meaning
        self._labels = labels
        self._children: dict[tuple[str, ...], Child] = {}

    def labels(self, *values: str) -> Child:
        """Give the child for one value of each label, in order; a new one starts at zero.

        Raises ValueError when values are missing or left over.
        """
        child = self._children.get(values)
        if child is None:
            if len(values) != len(self._labels):
                raise ValueError(f"{self._name} is labelled by {self._labels}, not {values}")
            child = self._children[values] = self._new()
        return child

    def children(self) -> Iterable[tuple[tuple[str, ...], Child]]:
        """The values of the labels, and the child, of each series."""
        return self._children.items()

    def collect(self) -> Metric:
        family = self._new.family(self._name, self._meaning, self._labels)
        for values, child in self._children.items():
            child.add_to(family, values)
        return family
