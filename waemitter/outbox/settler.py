"""Outcomes of many messages, written by one statement at a time.

Nobody waits for its own write: what Meta answered is kept here until it is stored, a stop included, and the database's
absence too. Storing it twice does no harm, and a stale one changes nothing: the token of its attempt fences it.
"""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from waemitter.errors import DatabaseUnreachable
from waemitter.outbox.retry import Outcome
from waemitter.outbox.store import Applied, Settled, Settlement

LINGER: Final = 0.025  # seconds between two writes under load: a statement for many messages costs little more than for one
LARGEST: Final = 500
FIRST_BACKOFF: Final = 0.05
LONGEST_BACKOFF: Final = 2.0
LAST_WORD: Final = 1.0  # seconds

BACK_IN_QUEUE: Final = frozenset(
    {
        Outcome.RETRY,
        Outcome.DEFER,
        Outcome.PAIR,
        Outcome.POSTPONE,
        Outcome.RELEASE,
        Outcome.UNCONFIRMED,
    }
)


class Store(Protocol):
    async def settle(self, settlements: Sequence[Settlement]) -> Settled: ...
    async def answered_late(self, settlements: Sequence[Settlement]) -> Applied: ...


class Settler:
    def __init__(
        self,
        store: Store,
        *,
        requeued: Callable[[], None],
        stale: Callable[[int], None],
        late: Callable[[Applied], None],
        database_lost: Callable[[str], None],
        clock: Callable[[], float],
    ) -> None:
        """`requeued()`: rows are in the queue again, look when the next is due; `stale(n)`: n outcomes came too late.

        `late` hears what became known by those of them that Meta had accepted.
        """
        self._store = store
        self._requeued = requeued
        self._stale = stale
        self._late = late
        self._database_lost = database_lost
        self._clock = clock
        self._waiting: list[Settlement] = []
        self._writing: list[Settlement] = []
        self._something: Final = asyncio.Event()
        self._enough: Final = asyncio.Event()
        self._closed = False

    def settle(self, settlement: Settlement) -> None:
        self._waiting.append(settlement)
        self._something.set()
        if len(self._waiting) >= LARGEST:
            self._enough.set()

    def close(self) -> None:
        """Nothing more will come: `run` ends when all is written."""
        self._closed = True
        self._something.set()
        self._enough.set()

    async def run(self) -> None:
        written_at = float("-inf")
        try:
            while await self._await_some(written_at):
                written_at = self._clock()
                self._writing, self._waiting = self._waiting[:LARGEST], self._waiting[LARGEST:]
                settled = await self._write(self._writing)
                if settled.woken or any(
                    given.decision.outcome in BACK_IN_QUEUE for given in self._writing
                ):
                    self._requeued()
                self._writing = []
        except asyncio.CancelledError:
            await self._last_word()
            raise

    async def _last_word(self) -> None:
        """The grace is over, yet what Meta answered shall not be lost to it if the database is there."""
        unwritten = self._writing + self._waiting
        if unwritten:
            with contextlib.suppress(DatabaseUnreachable, TimeoutError):
                async with asyncio.timeout(LAST_WORD):
                    await self._settle(unwritten)

    async def _await_some(self, written_at: float) -> bool:
        """The first outcome after a quiet time is written at once, those under load wait for company."""
        while not self._waiting:
            if self._closed:
                return False
            self._something.clear()
            await self._something.wait()
        patience = written_at + LINGER - self._clock()
        if patience > 0 and len(self._waiting) < LARGEST and not self._closed:
            self._enough.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(patience):
                    await self._enough.wait()
        return True

    async def _write(self, batch: Sequence[Settlement]) -> Settled:
        backoff = FIRST_BACKOFF
        while True:
            try:
                return await self._settle(batch)
            except DatabaseUnreachable as error:
                self._database_lost(str(error))
                await asyncio.sleep(backoff)
                backoff = min(backoff * 2, LONGEST_BACKOFF)

    async def _settle(self, batch: Sequence[Settlement]) -> Settled:
        """An answer whose attempt is over is truth all the same: the message exists, and must not be sent again."""
        settled = await self._store.settle(batch)
        if not settled.stale:
            return settled
        self._stale(len(settled.stale))
        stale = set(settled.stale)
        accepted = [
            given
            for given in batch
            if given.decision.outcome is Outcome.SENT and given.message_id in stale
        ]
        if not accepted:
            return settled
        applied = await self._store.answered_late(accepted)
        self._late(applied)
        return settled._replace(woken=settled.woken + applied.freed)
