"""The one loop: drain a table of due rows, then sleep until the bell rings, the next row is due, or the sweep.

It is told its capacity and never claims what it cannot start. It knows nothing of what a row is.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Generic, Protocol, TypeVar

from waemitter.errors import DatabaseUnreachable
from waemitter.runtime.doorbell import Bell
from waemitter.runtime.supervise import Stop

Row = TypeVar("Row")

FIRST_RETRY: Final = 0.005  # seconds: something is due, and nothing could be claimed
LONGEST_RETRY: Final = 1.0
DEAF: Final = 0.25  # seconds: a longer `not_before` still hears the bell, since a limit may be raised meanwhile
FIRST_BACKOFF: Final = 0.05  # seconds: the database does not answer
LONGEST_BACKOFF: Final = 2.0


@dataclass(frozen=True, slots=True)
class Claim(Generic[Row]):
    """What a claim brought, and when to come back; seconds from now."""

    rows: Sequence[Row] = field(default=())
    next_due: float | None = None  # 0 = there is more, now; None = nothing waits
    not_before: float = 0.0  # to ask earlier would be in vain


class DueTable(Protocol[Row]):
    async def claim(self, limit: int) -> Claim[Row]:
        """Lease at most `limit` rows. Raises DatabaseUnreachable."""
        ...

    async def work(self, row: Row) -> None:
        """Everything that becomes of a row; it raises only for a bug."""
        ...

    async def release(self, rows: Sequence[Row]) -> None:
        """Give rows back that were never started, without spending an attempt."""
        ...


class Capacity(Protocol):
    def workers(self) -> int:
        """How many rows may be worked on at once, now."""
        ...

    def reserve(self) -> int:
        """How many more may wait, leased, for a free worker: what will be started in a moment."""
        ...


@dataclass(frozen=True, slots=True)
class Fixed:
    """A capacity that never changes."""

    size: int = 1

    def workers(self) -> int:
        return self.size

    def reserve(self) -> int:
        return 0


class DueLoop(Generic[Row]):
    def __init__(
        self,
        table: DueTable[Row],
        bell: Bell,
        *,
        capacity: Capacity,
        batch_size: int,
        sweep_interval: float,
        jitter: Callable[[], float],
        database_lost: Callable[[str], None] = lambda _: None,
    ) -> None:
        """`sweep_interval` in seconds; `jitter()` gives a factor near 1 for the sweep alone."""
        self._table = table
        self._bell = bell
        self._capacity = capacity
        self._batch_size = batch_size
        self._sweep_interval = sweep_interval
        self._jitter = jitter
        self._database_lost = database_lost
        self._ready: Final[deque[Row]] = deque()
        self._working = 0
        self._room_made: Final = asyncio.Event()
        self._in_vain = 0  # claims in a row that brought nothing though something was due

    async def run(self, stop: Stop) -> None:
        backoff = FIRST_BACKOFF
        with stop.waking(self._bell.ring), stop.waking(self._room_made.set):
            async with asyncio.TaskGroup() as workers:
                while await self._room(stop):
                    self._bell.clear()
                    try:
                        claim = await self._table.claim(self._claimable())
                    except DatabaseUnreachable as error:
                        self._database_lost(str(error))
                        await stop.sleep(backoff)
                        backoff = min(backoff * 2, LONGEST_BACKOFF)
                        continue
                    backoff = FIRST_BACKOFF
                    self._ready.extend(claim.rows)
                    self._start_workers(workers)
                    await self._pause(claim, stop)
                await self._table.release(tuple(self._ready))
                self._ready.clear()

    def _claimable(self) -> int:
        room = self._capacity.workers() + self._capacity.reserve()
        free = room - self._working - len(self._ready)
        # Half empty, not merely one short: under load a claim for each row would cost more than the row.
        return min(self._batch_size, free) if 2 * free >= min(self._batch_size, room) else 0

    async def _room(self, stop: Stop) -> bool:
        """Wait until something can be taken. False: stop."""
        while not stop.requested.is_set():
            self._room_made.clear()
            if self._claimable() > 0:
                return True
            await self._room_made.wait()
        return False

    def _start_workers(self, workers: asyncio.TaskGroup) -> None:
        wanted = min(len(self._ready), self._capacity.workers() - self._working)
        for _ in range(wanted):
            self._working += 1
            workers.create_task(self._worker(workers))

    async def _worker(self, workers: asyncio.TaskGroup) -> None:
        while self._ready and self._working <= self._capacity.workers():
            await self._table.work(self._ready.popleft())
            self._room_made.set()
        self._working -= 1
        self._room_made.set()
        if self._ready:
            self._start_workers(workers)

    async def _pause(self, claim: Claim[Row], stop: Stop) -> None:
        patience = self._sweep_interval * self._jitter()
        if claim.next_due is not None:
            patience = min(patience, max(claim.next_due, 0.0))
        if claim.rows or patience > 0:
            self._in_vain = 0
        else:  # due, yet not to be had: somebody else is at it
            patience = min(FIRST_RETRY * 2**self._in_vain, LONGEST_RETRY)
            self._in_vain += 1
        if 0 < claim.not_before <= DEAF:
            if await stop.sleep(claim.not_before):
                return
            patience -= claim.not_before
        elif claim.not_before > DEAF:
            patience = max(patience, claim.not_before)
        if patience > 0:
            await self._bell.heard(patience)
