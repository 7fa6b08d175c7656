"""When the pages change: notifications and counters, gathered into a beat that all viewers share.

The doorbell's one connection hears for every viewer of this process. A daemon under load is not notified of its own work,
so its counters are looked at too: they are in memory.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple

from waemitter.observe.instruments import Counter, Family, Gauge
from waemitter.observe.metrics import Metrics
from waemitter.runtime.supervise import Stop

BEAT: Final = 0.5
"""Seconds between two looks: at most two signals a second, however much happens."""
SAMPLE_EVERY: Final = 5.0
SAMPLES: Final = 180
"""A quarter of an hour."""
MOST_VIEWERS: Final = 200


class Sample(NamedTuple):
    """Messages a second, over SAMPLE_EVERY."""

    sent: float
    failed: float


class Totals(NamedTuple):
    """Since this daemon started."""

    sent: float = 0.0
    failed: float = 0.0
    delivered: float = 0.0
    webhooks: float = 0.0
    turns: float = 0.0
    jobs: float = 0.0


class TooManyViewers(Exception):
    """MOST_VIEWERS are connected."""


def values(family: Family[Counter] | Family[Gauge]) -> dict[tuple[str, ...], float]:
    """The numbers of a family, by the values of its labels."""
    metric = family.collect()
    return {tuple(sample.labels.values()): sample.value for sample in metric.samples}


class Pulse:
    def __init__(self, metrics: Metrics, *, clock: Callable[[], float]) -> None:
        """`clock` in seconds, monotonic."""
        self.samples: Final[deque[Sample]] = deque(maxlen=SAMPLES)
        self._metrics = metrics
        self._clock = clock
        self._viewers: Final[set[asyncio.Event]] = set()
        self._rung = False
        self.closed = False
        self.told_at = float("-inf")
        """When the viewers were last told that something changed, by the clock."""

    def now(self) -> float:
        """The time by the clock."""
        return self._clock()

    def notified(self, _channel: str, own: bool) -> None:  # noqa: ARG002, FBT001 as the doorbell calls it
        self._rung = True

    @contextmanager
    def viewer(self) -> Iterator[asyncio.Event]:
        """An event that is set when something changed, and when the daemon stops. Raises TooManyViewers."""
        if len(self._viewers) >= MOST_VIEWERS:
            raise TooManyViewers
        self._viewers.add(event := asyncio.Event())
        try:
            yield event
        finally:
            self._viewers.discard(event)

    def totals(self) -> Totals:
        sends, statuses = values(self._metrics.outbox_sends), values(self._metrics.status_updates)
        return Totals(
            sent=sum(count for (_, outcome), count in sends.items() if outcome == "sent"),
            failed=sum(count for (_, outcome), count in sends.items() if outcome == "failed")
            + statuses[("failed", "applied")],
            delivered=statuses[("delivered", "applied")],
            webhooks=sum(values(self._metrics.webhook_requests).values()),
            turns=sum(values(self._metrics.turns).values()),
            jobs=sum(values(self._metrics.job_runs).values()),
        )

    async def run(self, stop: Stop) -> None:
        seen = sampled = self.totals()
        sampled_at = self._clock()
        try:
            while not await stop.sleep(BEAT):
                totals = self.totals()
                if self._rung or totals != seen:
                    self._rung, seen = False, totals
                    self._tell()
                elapsed = self._clock() - sampled_at
                if elapsed >= SAMPLE_EVERY:
                    self.samples.append(
                        Sample(
                            (totals.sent - sampled.sent) / elapsed,
                            (totals.failed - sampled.failed) / elapsed,
                        )
                    )
                    sampled, sampled_at = totals, self._clock()
                    self._tell()
        finally:
            self.closed = True
            self._tell()

    def _tell(self) -> None:
        self.told_at = self._clock()
        for viewer in self._viewers:
            viewer.set()
