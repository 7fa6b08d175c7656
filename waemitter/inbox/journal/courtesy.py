"""What can wait steps back while webhooks wait for their 200.

Both run on one event loop. Meta wants its answer within milliseconds, for what is in it there is time: so before each claim the
loop is asked how long one of its turns takes. The waiting is bounded by a share of the work: under a flood the lag grows, and the
work goes on.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Final, Generic, TypeVar

from waemitter.runtime.due_loop import Claim, DueTable

Row = TypeVar("Row")

LONG_TURN: Final = 0.004  # seconds: the loop has much to do
PAUSE: Final = 0.02  # seconds between two questions
SHARE: Final = 2.0  # seconds of stepping back, at the most, for each second of work


class Courteous(Generic[Row]):
    """A DueTable before another one."""

    def __init__(self, table: DueTable[Row]) -> None:
        self._table = table
        self._worked = 0.0

    async def claim(self, limit: int) -> Claim[Row]:
        patience, self._worked = self._worked * SHARE, 0.0
        until = time.monotonic() + patience
        while time.monotonic() < until and await _turn() > LONG_TURN:  # noqa: ASYNC110 an idle loop tells nobody
            await asyncio.sleep(PAUSE)
        return await self._table.claim(limit)

    async def work(self, row: Row) -> None:
        began = time.monotonic()
        await self._table.work(row)
        self._worked += time.monotonic() - began

    async def release(self, rows: Sequence[Row]) -> None:
        await self._table.release(rows)


async def _turn() -> float:
    """How long the loop takes to come round, in seconds."""
    began = time.monotonic()
    await asyncio.sleep(0)
    return time.monotonic() - began
