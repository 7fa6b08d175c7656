"""How often one caller may ask: a token bucket for each (GCRA), in memory that is bounded."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

MOST: Final = 10_000
"""Callers that are remembered; whoever was not heard for longest is forgotten, with a full bucket."""


class Buckets:
    """`rate` tokens a second flow into each caller's bucket, which holds `burst`; rate 0 is no limit."""

    def __init__(self, *, rate: float, burst: float, most: int = MOST) -> None:
        self._interval = 1 / rate if rate else 0.0
        self._tolerance = self._interval * max(burst - 1, 0)
        self._most = most
        self._next: OrderedDict[str, float] = OrderedDict()

    def wait(self, caller: str, now: float) -> float:
        """Seconds until the caller's next token; 0 when one is there. Takes nothing."""
        return max(0.0, self._next.get(caller, now) - self._tolerance - now)

    def take(self, caller: str, now: float) -> float:
        """Take a token and return 0, or return the seconds until there is one. `now` in seconds."""
        wait = self.wait(caller, now)
        if wait == 0 and self._interval:
            self._next[caller] = max(self._next.get(caller, now), now) + self._interval
            self._next.move_to_end(caller)
            if len(self._next) > self._most:
                self._next.popitem(last=False)
        return wait
