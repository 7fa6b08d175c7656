"""The one loop: drain a table of due rows, then sleep until the bell rings, the next row is due, or the sweep.

It is told its capacity and never claims what it cannot start. It knows nothing of what a row is.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Final, Generic, Protocol, TypeVar

from waemitter.errors import DatabaseUnreachable
from waemitter.runtime.doorbell import Bell
from waemitter.runtime.supervise import Stop

Row = TypeVar("Row")

GATHER: Final = (
    0.05  # seconds: while more than half is taken, the wait for a claim that is worth it
)
FIRST_RETRY: Final = 0.005  # seconds: something is due, and nothing could be claimed
LONGEST_RETRY: Final = 1.0
DEAF: Final = 0.25  # seconds: a longer `not_before` still hears the bell, since a limit may be raised meanwhile
FIRST_BACKOFF: Final = 0.05  # seconds: the database does not answer
LONGEST_BACKOFF: Final = 2.0
LONGEST_WORK: Final = 600.0  # seconds: a loop that had no room for so long is stuck


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
        self._wanted = 0  # the room that is waited for
        self._retry = FIRST_RETRY

    async def run(self, stop: Stop) -> None:
        backoff = FIRST_BACKOFF
        with stop.waking(self._bell.ring), stop.waking(self._room_made.set), self._heard_of(stop):
            async with asyncio.TaskGroup() as workers:
                while await self._has_room(stop):
                    self._bell.clear()
                    self._promise(stop, LONGEST_BACKOFF)
                    try:
                        claim = await self._table.claim(self._claimable())
                    except DatabaseUnreachable as error:
                        self._database_lost(str(error))
                        await stop.sleep(backoff)
                        backoff = min(backoff * 2, LONGEST_BACKOFF)
                        continue
                    backoff = FIRST_BACKOFF
                    self._ready.extend(claim.rows)
                    self._start(workers, stop)
                    await self._pause(claim, stop)
                await self._table.release(tuple(self._ready))
                self._ready.clear()

    @contextmanager
    def _heard_of(self, stop: Stop) -> Iterator[None]:
        try:
            yield
        finally:
            stop.vitals.ended(self)

    def _promise(self, stop: Stop, within: float) -> None:
        stop.vitals.promise(self, type(self._table).__name__.lower(), within)

    def _claimable(self) -> int:
        return min(self._batch_size, self._room() - self._working - len(self._ready))

    def _room(self) -> int:
        return self._capacity.workers() + self._capacity.reserve()

    def _half(self) -> int:
        return (min(self._batch_size, self._room()) + 1) // 2

    async def _has_room(self, stop: Stop) -> bool:
        """Wait until something can be taken. False: stop."""
        while not stop.requested.is_set():
            if self._claimable() <= 0:
                self._promise(stop, LONGEST_WORK)
                await self._room_for(1)
            elif self._claimable() >= self._half() or await self._gathered(stop):
                return True
        return False

    async def _gathered(self, stop: Stop) -> bool:
        """Under load a claim for each row would cost more than the row; nor may a few slow ones hold up the rest."""
        with suppress(TimeoutError):
            async with asyncio.timeout(GATHER):
                while self._claimable() < self._half() and not stop.requested.is_set():
                    await self._room_for(self._half())
        return self._claimable() > 0 and not stop.requested.is_set()

    async def _room_for(self, rows: int) -> None:
        """Wait until so many can be taken; told once, not by every row that ends meanwhile."""
        self._wanted = rows
        self._room_made.clear()
        try:
            await self._room_made.wait()
        finally:
            self._wanted = 0

    def _tell_room(self) -> None:
        if 0 < self._wanted <= self._claimable():
            self._room_made.set()

    def _start(self, workers: asyncio.TaskGroup, stop: Stop) -> None:
        while (
            self._ready and self._working < self._capacity.workers() and not stop.requested.is_set()
        ):
            self._working += 1
            workers.create_task(self._work(self._ready.popleft(), workers, stop))

    async def _work(self, row: Row, workers: asyncio.TaskGroup, stop: Stop) -> None:
        """One task works on row after row: to make one costs as much as to claim a row."""
        while True:
            await self._table.work(row)
            if not self._ready or stop.requested.is_set():
                break
            if self._working > self._capacity.workers():
                break
            row = self._ready.popleft()
            self._tell_room()
            self._start(workers, stop)
        self._working -= 1
        self._tell_room()

    async def _pause(self, claim: Claim[Row], stop: Stop) -> None:
        patience = self._sweep_interval * self._jitter()
        if claim.next_due is not None:
            patience = min(patience, max(claim.next_due, 0.0))
        if claim.rows or patience > 0:
            self._retry = FIRST_RETRY
        else:  # due, yet not to be had: somebody else is at it
            patience = self._retry
            self._retry = min(self._retry * 2, LONGEST_RETRY)
        if 0 < claim.not_before <= DEAF:
            if await stop.sleep(claim.not_before):
                return
            patience -= claim.not_before
        elif claim.not_before > DEAF:
            patience = max(patience, claim.not_before)
        self._promise(stop, claim.not_before + max(patience, 0.0))
        if patience > 0:
            await self._bell.heard(patience)
