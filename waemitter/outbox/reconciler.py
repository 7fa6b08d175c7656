"""What a notification, a wake or a daemon may have missed, looked for at a slow pace; and the depth of the queue, for gauges.

Expired leases and graces need no sweep: the claim meets them when they are due.
"""

from collections.abc import Callable
from typing import Final

from waemitter.errors import DatabaseUnreachable
from waemitter.observe.events import Events
from waemitter.outbox.letters.store import LetterStore
from waemitter.outbox.store import OutboxStore
from waemitter.runtime.supervise import Stop

MEASURE_EVERY: Final = 30.0  # seconds
SHARE: Final = 100.0  # a measurement that takes a second is made every hundred: 1 % of one connection at the most


class Reconciler:
    def __init__(
        self,
        store: OutboxStore,
        letters: LetterStore,
        *,
        events: Events,
        sweep_interval: float,
        clock: Callable[[], float],
        jitter: Callable[[], float],
    ) -> None:
        """`sweep_interval` in seconds; `clock` in seconds, monotonic; `jitter()` gives a factor near 1."""
        self._store = store
        self._letters = letters
        self._events = events
        self._sweep_interval = sweep_interval
        self._clock = clock
        self._jitter = jitter

    async def run(self, stop: Stop) -> None:
        sweep_at = measure_at = self._clock()
        while True:
            try:
                if self._clock() >= sweep_at:
                    sweep_at = self._clock() + self._sweep_interval * self._jitter()
                    await self._sweep()
                if self._clock() >= measure_at:
                    measure_at = self._clock() + MEASURE_EVERY
                    measure_at += max(0.0, SHARE * await self._measure() - MEASURE_EVERY)
                    self._events.database_back()
            except DatabaseUnreachable as error:
                self._events.database_lost(error=str(error))
            if await stop.sleep(min(sweep_at, measure_at) - self._clock()):
                return

    async def _sweep(self) -> None:
        strays = await self._store.sweep()
        if strays:
            self._events.channel_unknown(count=strays)

    async def _measure(self) -> float:
        """Seconds it took."""
        started = self._clock()
        piles = await self._letters.piles()
        self._events.letters_sampled(
            {(pile.direction, pile.status): pile.letters for pile in piles}
        )
        depth = await self._store.depth()
        for channel in await self._store.channels():
            mine = [found for found in depth if found.channel == channel.name]
            self._events.outbox_sampled(
                channel=channel.name,
                messages={found.status: found.rows for found in mine},
                oldest_due_age=max((found.oldest for found in mine), default=0.0),
                tokens=min(1.0, max(0.0, 1.0 - channel.taken * channel.rate)),
                paused=channel.pause_reason or "operator" if channel.paused else None,
            )
        return self._clock() - started
