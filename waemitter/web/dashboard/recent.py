"""What many viewers ask for at the same time is read once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

Value = TypeVar("Value")

LASTS: Final = 1.0
"""Seconds for which what was read is good, unless something has changed since."""
EACH: Final = 0.25
"""Seconds for which it is good whatever changes, for each other page that somebody has open: twenty pages are read in turn."""
FORGOTTEN_AFTER: Final = 10.0
"""Seconds after which nobody is taken to have a page open any more."""


@dataclass(slots=True)
class _Entry(Generic[Value]):
    reading: asyncio.Lock = field(default_factory=asyncio.Lock)
    value: Value | None = None
    read_at: float = float("-inf")
    asked_at: float = 0.0


class Recent(Generic[Value]):
    """Pages by what they show. Nothing older than the last change is given out, as long as few different pages are open."""

    def __init__(self, *, changed_at: Callable[[], float], clock: Callable[[], float]) -> None:
        """`changed_at`: when something last changed, by the `clock` (seconds, monotonic)."""
        self._changed_at = changed_at
        self._clock = clock
        self._entries: Final[dict[Hashable, _Entry[Value]]] = {}

    async def get(self, key: Hashable, read: Callable[[], Awaitable[Value]]) -> Value:
        """Give what was read under this key just now, or read it. Raises what `read` does."""
        self._tidy()
        entry = self._entries.setdefault(key, _Entry())
        entry.asked_at = self._clock()
        async with entry.reading:
            value = entry.value
            if value is None or not self._good(entry):
                began = self._clock()
                value = await read()
                entry.value, entry.read_at = value, began
            return value

    def forget(self) -> None:
        """Whatever is asked for next is read anew."""
        for entry in self._entries.values():
            entry.read_at = float("-inf")

    def _good(self, entry: _Entry[Value]) -> bool:
        age = self._clock() - entry.read_at
        if age < EACH * (len(self._entries) - 1):
            return True
        return age < LASTS and entry.read_at >= self._changed_at()

    def _tidy(self) -> None:
        now = self._clock()
        for key, entry in list(self._entries.items()):
            if now - entry.asked_at > FORGOTTEN_AFTER and not entry.reading.locked():
                del self._entries[key]
