"""Rate limits as pure arithmetic over a clock that the caller reads."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Hashable
from typing import Protocol


class Limit(Protocol):
    """How often something may happen, counted by key; `now` is in seconds and never goes back."""

    def admit(self, key: Hashable, now: float) -> bool:
        """Count one more of `key`, unless that would exceed the limit: then count nothing."""
        ...

    def spend(self, key: Hashable, now: float) -> None:
        """Count one more of `key` whatever the limit says."""
        ...


class SlidingWindow:
    """At most `limit` in any stretch of `seconds`, wherever it begins."""

    def __init__(self, *, limit: int, seconds: float = 1.0) -> None:
        self._limit = limit
        self._seconds = seconds
        self._moments: defaultdict[Hashable, deque[float]] = defaultdict(deque)

    def admit(self, key: Hashable, now: float) -> bool:
        moments = self._within(key, now)
        if len(moments) >= self._limit:
            return False
        moments.append(now)
        return True

    def spend(self, key: Hashable, now: float) -> None:
        self._within(key, now).append(now)

    def _within(self, key: Hashable, now: float) -> deque[float]:
        moments = self._moments[key]
        while moments and moments[0] <= now - self._seconds:
            moments.popleft()
        return moments


class Gcra:
    """One every `interval` seconds, of which `burst` may come at once, borrowed from the future.

    The generic cell rate algorithm: all it keeps of a key is the moment at which its debt is paid.
    """

    def __init__(self, *, interval: float, burst: int) -> None:
        self._interval = interval
        self._tolerance = (burst - 1) * interval
        self._paid_at: dict[Hashable, float] = {}
        self._sweep_at_size = 1024

    def admit(self, key: Hashable, now: float) -> bool:
        if self._paid_at.get(key, now) - now > self._tolerance + 1e-9:
            return False
        self.spend(key, now)
        return True

    def spend(self, key: Hashable, now: float) -> None:
        self._paid_at[key] = max(self._paid_at.get(key, now), now) + self._interval
        if len(self._paid_at) > self._sweep_at_size:
            self._forget_paid(now)

    def _forget_paid(self, now: float) -> None:
        # A key without debt is as good as unknown; doubling keeps the sweeps amortised.
        self._paid_at = {key: at for key, at in self._paid_at.items() if at > now}
        self._sweep_at_size = max(1024, 2 * len(self._paid_at))
