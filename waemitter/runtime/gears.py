"""Two gears: an insert notifies only while no daemon is looking by itself.

NOTIFY takes one lock for the whole database cluster at commit: an insert trigger that always notifies costs a busy application
three quarters of its insert rate. A daemon that is busy needs no bell, it claims again anyway. So:

  bell     the daemon sleeps; inserts notify
  patrol   the daemon holds an advisory lock on its LISTEN connection and looks every few milliseconds; inserts see the lock
           taken and stay silent. If the daemon dies, its connection goes, and the lock with it.

Going back to sleep is the delicate step: an insert that stayed silent may commit after our last look. After the lock is freed,
every silent insert has a transaction id below one assigned now (its own was assigned by the INSERT, before its trigger asked
for the lock). So: free the lock, take a transaction id (the horizon), keep looking until no older transaction that wrote to
the outbox is open, look once more, sleep. The same step is due at the start, after every reconnect, and when another daemon's
patrol ends: silent rows may be left behind there too.

A daemon that patrols says so on the channel waemitter_gears, before and after it takes the lock. The others then look twice a
second until its lock is gone: it may freeze with the lock in its hand.
"""

import asyncio
from collections.abc import Callable
from typing import Final, Protocol

from waemitter.runtime.doorbell import Doorbell, NotListening
from waemitter.runtime.supervise import Stop

GEARS: Final = "waemitter_gears"

LOAD: Final = 50.0  # rows and rings in a second: below that the bell serves
PATROL_EVERY: Final = 0.010  # seconds between two looks
QUIET: Final = 0.150  # seconds without a row before a patrol ends
WATCH_EVERY: Final = 0.4  # seconds: a frozen patroller's rows are found within one
WATCH_AT_LEAST: Final = 2.0  # seconds: the lock is taken after it was announced
HELP_EVERY: Final = 0.100  # seconds between two calls for help while saturated

START_PATROL: Final = "select waemitter.start_patrol()"
END_PATROL: Final = "select waemitter.end_patrol()"
PATROLLED: Final = "select waemitter.patrolled()"
HORIZON: Final = "select waemitter.patrol_horizon()"
OLDER_WRITERS: Final = "select waemitter.older_writers($1)"
NOTIFY: Final = "select pg_notify($1, '')"


class Observer(Protocol):
    def gear_changed(self, *, gear: str) -> None: ...


class Gears:
    """Decides when this daemon patrols; loops report what they claim, and are rung."""

    def __init__(
        self, doorbell: Doorbell, *, channel: str, observer: Observer, clock: Callable[[], float]
    ) -> None:
        self._doorbell = doorbell
        self._channel = channel
        self._observer = observer
        self._clock = clock
        self._wake: Final = asyncio.Event()
        self._second = self._load = self._load_before = 0.0
        self._last_row = self._last_help = float("-inf")
        self._watched_since = float("-inf")
        self._saturated = False
        self._unsettled = True  # silent rows may be left behind: at the start, who knows
        doorbell.watch(self._told)

    def claimed(self, rows: int, *, saturated: bool) -> None:
        """A claim brought `rows`; saturated: the daemon could not take all that was due."""
        if rows:
            self._last_row = self._clock()
            self._saturated = saturated
            self._count(rows)

    def _told(self, channel: str, own: bool) -> None:  # noqa: FBT001 the doorbell's watcher
        if channel == "":
            self._unsettled = True
            self._wake.set()
        elif channel == GEARS:
            if not own:
                self._watched_since = self._clock()
                self._wake.set()
        elif channel == self._channel and not own:
            self._count(1)

    def _count(self, events: float) -> None:
        second = self._clock() // 1
        if second != self._second:
            self._load_before = self._load if second == self._second + 1 else 0.0
            self._second, self._load = second, 0.0
        self._load += events
        if self._loaded():
            self._wake.set()

    def _loaded(self) -> bool:
        return max(self._load, self._load_before) > LOAD

    def _watching(self) -> bool:
        return self._clock() - self._watched_since < WATCH_AT_LEAST

    async def run(self, stop: Stop) -> None:
        with stop.waking(self._wake.set):
            while not stop.requested.is_set():
                await self._wake.wait()
                self._wake.clear()
                try:
                    await self._shift(stop)
                except NotListening:  # the lock went with the connection; the reconnect wakes us
                    self._observer.gear_changed(gear="bell")

    async def _shift(self, stop: Stop) -> None:
        while not stop.requested.is_set():
            if self._loaded() and self._clock() - self._last_row < QUIET:
                await self._patrol(stop)
            elif self._watching():
                await self._watch(stop)
            elif not self._unsettled:
                return
            else:
                await self._settle(stop)

    async def _patrol(self, stop: Stop) -> None:
        """Look again and again, with the lock if it is to be had, until nothing came for a while."""
        await self._doorbell.call(NOTIFY, GEARS)
        held = announced = False
        self._unsettled = True
        try:
            while self._clock() - self._last_row < QUIET and not stop.requested.is_set():
                if not held:
                    held = bool(await self._doorbell.call(START_PATROL))
                elif not announced:
                    self._observer.gear_changed(gear="patrol")
                    await self._doorbell.call(NOTIFY, GEARS)
                    announced = True
                self._doorbell.ring(self._channel)
                await self._call_for_help()
                await stop.sleep(PATROL_EVERY)
        finally:
            if held:
                await self._doorbell.call(END_PATROL)
                self._observer.gear_changed(gear="bell")
        self._load = self._load_before = 0.0

    async def _call_for_help(self) -> None:
        if self._saturated and self._clock() - self._last_help >= HELP_EVERY:
            self._last_help = self._clock()
            await self._doorbell.call(NOTIFY, self._channel)

    async def _watch(self, stop: Stop) -> None:
        """Another daemon patrols: look now and then in its stead, until its lock is gone."""
        self._unsettled = True
        while await self._doorbell.call(PATROLLED) or self._watching():
            self._doorbell.ring(self._channel)
            if await stop.sleep(WATCH_EVERY):
                return

    async def _settle(self, stop: Stop) -> None:
        """The delicate step: outlast every transaction that may have stayed silent for a patrol now over."""
        self._unsettled = False
        horizon = await self._doorbell.call(HORIZON)
        pause = 0.005
        while await self._doorbell.call(OLDER_WRITERS, horizon):
            self._doorbell.ring(self._channel)
            if await stop.sleep(pause):
                return
            if self._loaded() and self._clock() - self._last_row < QUIET:
                self._unsettled = True
                return
            pause = min(pause * 1.5, 1.0)
        self._doorbell.ring(self._channel)
