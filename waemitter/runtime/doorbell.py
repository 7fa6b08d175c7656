"""LISTEN on one dedicated connection. A ring means "look again", never "here is the work".

The connection is probed by a round trip of its own, since a peer that is half gone says nothing. After every (re)connect all
bells ring: what was notified while nobody listened is found by looking. Nothing but calls with a result run here: a bare
prepare as the last call of a connection would hold its notifications back (asyncpg).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, Final, Protocol, TypeAlias

import asyncpg

from waemitter.errors import DatabaseUnreachable
from waemitter.runtime.supervise import Stop

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
Connect: TypeAlias = "Callable[[], Awaitable[Connection]]"

PROBE: Final = "select waemitter.patrolled()"
WHO_AM_I: Final = "select pg_backend_pid()"

FIRST_BACKOFF: Final = 0.05
LONGEST_BACKOFF: Final = 5.0
BROKEN: Final = (
    OSError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # what the driver makes of a farewell that it did not ask for
    DatabaseUnreachable,
)


class NotListening(Exception):
    """There is no healthy LISTEN connection at this moment."""


class Observer(Protocol):
    """What the doorbell tells of itself."""

    def listener_connected(self, *, reconnect: bool) -> None: ...
    def listener_lost(self, *, error: str) -> None: ...


class Bell:
    """One listener's ear for one channel: rings coalesce until they are heard."""

    def __init__(self) -> None:
        self._rung: Final = asyncio.Event()

    def ring(self) -> None:
        self._rung.set()

    async def heard(self, patience: float | None = None) -> bool:
        """Wait for a ring, at most `patience` seconds. False when they ran out: the caller looks anyway."""
        try:
            async with asyncio.timeout(patience):
                await self._rung.wait()
        except TimeoutError:
            return False
        self._rung.clear()
        return True

    def clear(self) -> None:
        """Forget the rings until now: the caller is about to look."""
        self._rung.clear()


class Doorbell:
    """The LISTEN connection of this process, and everybody's bells."""

    def __init__(
        self,
        connect: Connect,
        *,
        channels: Sequence[str],
        observer: Observer,
        probe_every: float = 10.0,
        probe_timeout: float = 5.0,
    ) -> None:
        """Probe the connection each `probe_every` seconds; `probe_timeout` seconds without an answer end it."""
        self._connect = connect
        self._bells: Final[dict[str, list[Bell]]] = {channel: [] for channel in channels}
        self._watchers: Final[list[Callable[[str, bool], None]]] = []
        self._observer = observer
        self._probe_every = probe_every
        self._probe_timeout = probe_timeout
        self._connection: Connection | None = None
        self._pid: int | None = None
        self._speaking: Final = asyncio.Lock()
        self._trouble: BaseException | None = None
        self._connected_before = False
        self._backoff = FIRST_BACKOFF

    @property
    def connected(self) -> bool:
        return self._connection is not None

    def bell(self, channel: str) -> Bell:
        """A new bell that rings with the channel. Raises KeyError for a channel nobody listens to."""
        bell = Bell()
        self._bells[channel].append(bell)
        return bell

    def watch(self, watcher: Callable[[str, bool], None]) -> None:
        """Call `watcher(channel, own)` for each notification; `own` = this connection sent it.

        ("", True) stands for a connection made or lost: anything may have been missed.
        """
        self._watchers.append(watcher)

    def ring(self, channel: str) -> None:
        for bell in self._bells[channel]:
            bell.ring()

    def ring_all(self) -> None:
        for channel in self._bells:
            self.ring(channel)

    async def call(self, statement: str, *arguments: Any) -> Any:
        """One value, asked on the LISTEN connection itself. Raises NotListening."""
        async with self._speaking:
            connection = self._connection
            if connection is None:
                raise NotListening
            try:
                return await connection.fetchval(statement, *arguments, timeout=self._probe_timeout)
            except BROKEN as error:
                self._trouble = error
                connection.terminate()  # half a connection is none: reconnect, and ring every bell
                raise NotListening from error
            except AttributeError as error:
                # The driver trips over itself when a connection is terminated between two of its steps.
                if not connection.is_closed():
                    raise
                raise NotListening from error

    async def run(self, stop: Stop) -> None:
        with stop.waking(self.ring_all):
            while not stop.requested.is_set():
                self._trouble = None
                try:
                    await self._listen_until(stop)
                except BROKEN as error:
                    self._trouble = error
                except NotListening:
                    pass  # call() told the trouble
                if stop.requested.is_set():
                    return
                self._observer.listener_lost(error=_in_words(self._trouble))
                await stop.sleep(self._backoff)
                self._backoff = min(self._backoff * 2, LONGEST_BACKOFF)

    async def _listen_until(self, stop: Stop) -> None:
        """Return when stopped, or when the server closed the connection."""
        async with self._listening(stop) as lost:
            self._observer.listener_connected(reconnect=self._connected_before)
            self._connected_before = True
            with stop.waking(lost.set):
                while not await _set_within(self._probe_every, lost):
                    if await self.call(PROBE):  # somebody patrols, and may freeze
                        self._tell("waemitter_gears", own=False)
                    self._backoff = FIRST_BACKOFF  # healthy, not merely connected

    @contextlib.asynccontextmanager
    async def _listening(self, stop: Stop) -> AsyncIterator[asyncio.Event]:
        async with stop.interrupting():
            connection = await self._connect()
        lost = asyncio.Event()
        try:
            connection.add_termination_listener(lambda _: lost.set())
            async with asyncio.timeout(self._probe_timeout):
                self._pid = await connection.fetchval(WHO_AM_I)  # a pooler's word for it is made up
                for channel in self._bells:
                    await connection.add_listener(channel, self._notified)
            self._connection = connection
            self.ring_all()  # LISTEN first, then look: whatever was notified while nobody listened
            self._tell("", own=True)
            yield lost
        finally:
            connection.terminate()
            if self._connection is not None:
                self._connection = None
                self._tell("", own=True)

    def _notified(self, _connection: object, pid: int, channel: str, _payload: object) -> None:
        self._tell(channel, own=pid == self._pid)
        self.ring(channel)

    def _tell(self, channel: str, *, own: bool) -> None:
        for watcher in self._watchers:
            watcher(channel, own)


async def _set_within(seconds: float, event: asyncio.Event) -> bool:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True


def _in_words(trouble: BaseException | None) -> str:
    if trouble is None:
        return "the connection was closed"
    return " ".join(str(trouble).split()) or type(trouble).__name__
