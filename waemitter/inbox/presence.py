"""Says in the database that webhooks are received, and since when without a gap.

A send of unknown outcome waits for its status webhook. That none came means something only while one could come: so the wait
begins anew when a daemon has started, and when the journal has failed, and is longer after a long gap (schema.sql,
end_graces). Between gaps this costs one small update every five seconds.
"""

import asyncio
import contextlib
import datetime
from collections.abc import Callable
from typing import Final, Protocol

from waemitter.errors import DatabaseUnreachable
from waemitter.runtime.supervise import Stop

EVERY: Final = (
    5.0  # seconds; a silence of three times as much is a gap (note_receiving, end_graces)
)
RETRY: Final = 0.5  # seconds between two words while something is wrong
JUST_NOW: Final = datetime.timedelta()


class Store(Protocol):
    async def note_receiving(self, *, away: datetime.timedelta | None) -> None: ...


class Presence:
    def __init__(
        self,
        store: Store,
        *,
        database_lost: Callable[[str], None],
        clock: Callable[[], float],
        every: float = EVERY,
        retry: float = RETRY,
    ) -> None:
        """`clock`, `every` and `retry` in seconds; the clock is monotonic."""
        self._store = store
        self._database_lost = database_lost
        self._clock = clock
        self._every = every
        self._retry = retry
        self._away_since: float | None = None
        self._failure: Final = asyncio.Event()

    async def begin(self) -> None:
        """Until now nobody received, as far as this daemon knows. Before any sender starts. Raises DatabaseUnreachable."""
        await self._store.note_receiving(away=JUST_NOW)

    def failed(self) -> None:
        """A webhook could not be taken: its sender will try again, at a time of its own."""
        if self._away_since is None:
            self._away_since = self._clock()
        self._failure.set()

    async def run(self, stop: Stop) -> None:
        with stop.waking(self._failure.set):
            while not stop.requested.is_set():
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._every):
                        await self._failure.wait()
                self._failure.clear()
                if not stop.requested.is_set() and not await self._tell():
                    await stop.sleep(self._retry)

    async def _tell(self) -> bool:
        """Whether all is well."""
        since = self._away_since
        away = None if since is None else datetime.timedelta(seconds=self._clock() - since)
        try:
            await self._store.note_receiving(away=away)
        except DatabaseUnreachable as error:
            self._database_lost(str(error))
            self.failed()
            return False
        if self._away_since == since:
            self._away_since = None
        return away is None
