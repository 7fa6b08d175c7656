"""What many viewers ask for is read once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, Generic, TypeVar

Value = TypeVar("Value")


class Cached(Generic[Value]):
    """Good for `lasts` seconds; who asks meanwhile, or while it is read, gets the same."""

    def __init__(
        self, read: Callable[[], Awaitable[Value]], *, lasts: float, clock: Callable[[], float]
    ) -> None:
        self._read = read
        self._lasts = lasts
        self._clock = clock
        self._reading: Final = asyncio.Lock()
        self._good_until = float("-inf")
        self._value: Value | None = None

    async def get(self) -> Value:
        async with self._reading:
            if self._value is None or self._clock() >= self._good_until:
                self._value = await self._read()
                self._good_until = self._clock() + self._lasts
            return self._value

    def forget(self) -> None:
        self._good_until = float("-inf")
