"""Two gears: an insert notifies only while no daemon is looking by itself.

NOTIFY takes one lock for the whole database cluster at commit: an insert trigger that always notifies costs a busy application
three quarters of its insert rate. A daemon that is busy needs no bell, it claims again anyway. So:

  bell     the daemon sleeps; inserts notify
  patrol   the daemon holds an advisory lock on its LISTEN connection and looks every few milliseconds; inserts see the lock
           taken and stay silent. If the daemon dies, its connection goes, and the lock with it.

Coming to rest is the delicate step: an insert that stayed silent may commit after our last look. Once nobody holds the lock,
every silent insert has a transaction id below one assigned now (its own was assigned by the INSERT, before its trigger asked
for the lock). So: see the lock free, take a transaction id (the horizon), keep looking until no older transaction that wrote
to the outbox is open, look once more, sleep. That is due after a patrol, at the start, after every reconnect, and when
another daemon's patrol ends: silent rows may be left behind there too.

Whoever takes the lock says so on the channel waemitter_gears. A daemon that may not rely on the bell, since another patrols
(and may freeze with the lock in its hand), or since its own connection is broken, looks at least every 0.4 seconds.
"""

import asyncio
from collections.abc import Callable
from typing import Final, Protocol

from waemitter.runtime.doorbell import Bell, Doorbell, NotListening
from waemitter.runtime.supervise import Stop

GEARS: Final = "waemitter_gears"

LOAD: Final = 50.0  # rows and rings in a second: below that the bell serves
PATROL_EVERY: Final = 0.010  # seconds between two looks
QUIET: Final = 0.150  # seconds without a row before a patrol ends
LOOK_EVERY: Final = 0.4  # seconds: rows whose bell nobody hears are found within one
FIRST_PAUSE: Final = 0.005  # seconds between two looks for transactions that stayed silent
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
        """`channel` is rung for work; `clock` in seconds, monotonic."""
        self._doorbell = doorbell
        self._channel = channel
        self._observer = observer
        self._clock = clock
        self._news: Final = Bell()
        self._awake: Final = asyncio.Event()  # the bell is not to be relied on
        self._second = self._load = self._load_before = 0.0
        self._last_row = self._last_help = float("-inf")
        self._saturated = False
        self._holding = False
        self._unsettled = True  # silent rows may be left behind: at the start, who knows
        doorbell.watch(self._told)

    def claimed(self, rows: int, *, saturated: bool, again_in: float = 0.0) -> None:
        """A claim brought `rows`; saturated: the daemon could not take all that was due.

        `again_in`: seconds until the next claim, which has to wait for its slots: that nothing comes before is no sign of quiet.
        """
        if rows:
            self._last_row = self._clock() + min(again_in, LOOK_EVERY)
            self._saturated = saturated
            self._count(rows)

    def _told(self, channel: str, own: bool) -> None:  # noqa: FBT001 the doorbell's watcher
        if channel == "":
            self._lay_down()  # the lock went with the connection
            self._unsettle()
        elif channel == GEARS and not own:
            self._unsettle()
        elif channel == self._channel and not own:
            self._count(1)

    def _unsettle(self) -> None:
        self._unsettled = True
        self._news.ring()

    def _count(self, events: float) -> None:
        second = self._clock() // 1
        if second != self._second:
            self._load_before = self._load if second == self._second + 1 else 0.0
            self._second, self._load = second, 0.0
        self._load += events
        if self._busy():
            self._news.ring()

    def _busy(self) -> bool:
        loaded = max(self._load, self._load_before) > LOAD
        return loaded and self._clock() - self._last_row < QUIET

    async def run(self, stop: Stop) -> None:
        with stop.waking(self._news.ring), stop.waking(self._awake.set):
            async with asyncio.TaskGroup() as group:
                group.create_task(self._look_while_awake(stop))
                while not stop.requested.is_set():
                    self._awake.set()
                    try:
                        await self._shift(stop)
                        self._awake.clear()
                    except NotListening:
                        pass  # awake until the doorbell has a connection, and tells us
                    await self._news.heard()

    async def _look_while_awake(self, stop: Stop) -> None:
        while not stop.requested.is_set():
            await self._awake.wait()
            self._doorbell.ring(self._channel)
            await stop.sleep(LOOK_EVERY)

    async def _shift(self, stop: Stop) -> None:
        while not stop.requested.is_set():
            if self._busy():
                await self._patrol(stop)
            elif self._unsettled:
                self._unsettled = False
                await self._outlast_patrols(stop)
                await self._settle(stop)
            else:
                return

    async def _patrol(self, stop: Stop) -> None:
        """Look again and again, with the lock if it is to be had, until nothing came for a while."""
        self._unsettled = True
        while self._busy() and not stop.requested.is_set():
            if not self._holding and await self._doorbell.call(START_PATROL):
                self._holding = True
                self._observer.gear_changed(gear="patrol")
            self._doorbell.ring(self._channel)
            await self._call_for_help()
            await stop.sleep(PATROL_EVERY)
        if self._holding:
            await self._doorbell.call(END_PATROL)
            self._lay_down()
        self._load = self._load_before = 0.0

    def _lay_down(self) -> None:
        if self._holding:
            self._holding = False
            self._observer.gear_changed(gear="bell")

    async def _call_for_help(self) -> None:
        if self._saturated and self._clock() - self._last_help >= HELP_EVERY:
            self._last_help = self._clock()
            await self._doorbell.call(NOTIFY, self._channel)

    async def _outlast_patrols(self, stop: Stop) -> None:
        """While another daemon patrols, inserts are silent, and it may be frozen: look in its stead."""
        while not self._disturbed(stop) and await self._doorbell.call(PATROLLED):
            await self._news.heard(LOOK_EVERY)

    async def _settle(self, stop: Stop) -> None:
        """The delicate step: outlast every transaction that may have stayed silent for a patrol now over."""
        if self._disturbed(stop):
            return
        horizon = await self._doorbell.call(HORIZON)
        pause = FIRST_PAUSE
        while not self._disturbed(stop) and await self._doorbell.call(OLDER_WRITERS, horizon):
            self._doorbell.ring(self._channel)
            await self._news.heard(pause)
            pause = min(pause * 1.5, LOOK_EVERY)
        self._doorbell.ring(self._channel)

    def _disturbed(self, stop: Stop) -> bool:
        """Whether the way to rest begins anew, or is at an end. What is due afterwards is due from its start."""
        if self._busy():
            self._unsettled = True
        return self._unsettled or stop.requested.is_set()
