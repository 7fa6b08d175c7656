"""Run services side by side; stop them in two phases.

A service is `async def run(stop)`. It owns no resources and starts no free tasks. One that crashes, or returns while the
daemon is still meant to run, takes the process down with a true exit status: silence is a crash. Only the doorbell and the
database pool reconnect in place.
"""

import asyncio
import contextlib
import signal
import time
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from typing import Final, TypeAlias

from waemitter.runtime.vitals import Vitals

Service: TypeAlias = Callable[["Stop"], Awaitable[None]]

SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)


class ServiceExited(RuntimeError):
    """A service returned while the daemon was still meant to run."""


class Stop:
    """Asked once: finish what you hold, within `grace` seconds. Asked twice: let go."""

    def __init__(self, *, grace: float) -> None:
        self.requested: Final = asyncio.Event()
        self.vitals: Final = Vitals(time.monotonic)
        self._allowed = grace
        self._deadline: asyncio.Timeout | None = None
        self._wakes: list[Callable[[], None]] = []

    def request(self) -> None:
        """Ask. It may be done at any time, also before anything runs, and any number of times."""
        if self.requested.is_set():
            self._allowed = 0.0
        self._bound()
        if not self.requested.is_set():
            self.requested.set()
            for wake in self._wakes:
                wake()

    @contextlib.contextmanager
    def waking(self, wake: Callable[[], None]) -> Iterator[None]:
        """Call `wake` when a stop is requested: nobody may sleep through it."""
        self._wakes.append(wake)
        if self.requested.is_set():
            wake()
        try:
            yield
        finally:
            self._wakes.remove(wake)

    @contextlib.contextmanager
    def bounding(self, deadline: asyncio.Timeout) -> Iterator[None]:
        """Let `deadline` run out when the grace period does."""
        self._deadline = deadline
        if self.requested.is_set():  # asked while we were still starting
            self._bound()
        try:
            yield
        finally:
            self._deadline = None

    def _bound(self) -> None:
        if self._deadline is not None and not self._deadline.expired():
            self._deadline.reschedule(asyncio.get_running_loop().time() + self._allowed)

    @contextlib.asynccontextmanager
    async def interrupting(self) -> AsyncIterator[None]:
        """Cut short what waits inside, with a TimeoutError, when a stop is requested."""
        async with asyncio.timeout(None) as limit:
            with self.waking(lambda: limit.reschedule(0.0)):
                yield

    async def sleep(self, seconds: float) -> bool:
        """Sleep, or return True as soon as a stop is requested."""
        try:
            async with asyncio.timeout(seconds):
                await self.requested.wait()
        except TimeoutError:
            return False
        return True

    @contextlib.contextmanager
    def on_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        for number in SIGNALS:
            loop.add_signal_handler(number, self.request)
        try:
            yield
        finally:
            for number in SIGNALS:
                loop.remove_signal_handler(number)


async def supervise(services: Mapping[str, Service], stop: Stop) -> bool:
    """Run until stopped. True: all drained. False: the grace period ran out.

    Raises an ExceptionGroup of what the services raised; ServiceExited for one that returned early.
    """
    try:
        async with asyncio.timeout(None) as deadline:
            with stop.bounding(deadline):
                async with asyncio.TaskGroup() as group:
                    for name, service in services.items():
                        group.create_task(_guard(name, service, stop), name=name)
    except TimeoutError:
        return False
    return True


async def _guard(name: str, service: Service, stop: Stop) -> None:
    try:
        await service(stop)
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        # Nobody cancelled it: a library did within, and a TaskGroup would take that for an end.
        raise ServiceExited(name) from error
    if not stop.requested.is_set():
        raise ServiceExited(name)


def causes_of(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    """What `supervise` raised, without the groups around it."""
    found: list[BaseException] = []
    for error in group.exceptions:
        found += causes_of(error) if isinstance(error, BaseExceptionGroup) else [error]
    return found


def place_of(error: BaseException) -> str:
    """The line that raised it."""
    frames = traceback.extract_tb(error.__traceback__)
    return (
        f"{frames[-1].name}, line {frames[-1].lineno} of {frames[-1].filename}" if frames else "?"
    )
