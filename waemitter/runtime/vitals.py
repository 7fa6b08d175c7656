"""Which loops are alive: each says by when it will be heard of again.

A loop that waits for rows is silent for a minute and well; one that hangs in a call that never returns is silent too. So
silence alone tells nothing: a loop is overdue when it has let its own word pass.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

MARGIN: Final = 90.0  # seconds: a statement may take 35, the wait for a connection 30


class Vitals:
    """The promises of all loops of one daemon."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """`clock` in seconds, monotonic."""
        self._clock = clock
        self._due: dict[object, tuple[str, float]] = {}

    def promise(self, loop: object, name: str, within: float) -> None:
        """`loop` will be heard of again within so many seconds, and a margin."""
        self._due[loop] = (name, self._clock() + within + MARGIN)

    def ended(self, loop: object) -> None:
        """It promises nothing any more."""
        self._due.pop(loop, None)

    def overdue(self) -> list[str]:
        """The names of those who have broken their word."""
        now = self._clock()
        return sorted({name for name, due in self._due.values() if now > due})
