"""Whether a service that failed should be asked again yet: a circuit breaker, pure.

    closed ── `threshold` failures in a row ──▸ open ── after `rest` seconds ──▸ half-open ── one call ──▸ closed, or open again

While it is open nobody waits for a service that is down, and the service gets the quiet to come back.
"""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

State: TypeAlias = Literal["closed", "half_open", "open"]

THRESHOLD: Final = 5
"""Failures in a row that open a circuit."""
REST: Final = 30.0
"""Seconds until a circuit that opened lets one call through."""


class Breaker:
    """The state of one target; `now` is in seconds, of a clock that never goes back.

    Each call that is admitted ends in `succeeded`, `failed` or `abandoned`.
    """

    def __init__(self, *, threshold: int = THRESHOLD, rest: float = REST) -> None:
        self._threshold = threshold
        self._rest = rest
        self._failures = 0
        self._opened_at: float | None = None
        self._probing = False

    @property
    def state(self) -> State:
        if self._opened_at is None:
            return "closed"
        return "half_open" if self._probing else "open"

    def admits(self, now: float) -> bool:
        """Whether a call may be made; a circuit that has rested admits one, and the next when that one has ended."""
        if self._opened_at is None:
            return True
        if self._probing or now - self._opened_at < self._rest:
            return False
        self._probing = True
        return True

    def succeeded(self) -> None:
        """Close it: the target answers. A late answer of a call from before it opened says so too."""
        self._failures = 0
        self._opened_at = None
        self._probing = False

    def failed(self, now: float) -> None:
        """Count a failure; calls that began before it opened do not prolong its rest."""
        self._failures += 1
        if self._probing or (self._opened_at is None and self._failures >= self._threshold):
            self._opened_at = now
        self._probing = False

    def abandoned(self) -> None:
        """Forget a call that ended without telling anything of the target: it was cancelled."""
        self._probing = False
