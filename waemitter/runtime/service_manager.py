"""What systemd is told of a service of `Type=notify`: datagrams to a socket, as of sd_notify(3).

Whoever started the daemon names the socket in NOTIFY_SOCKET; without it nothing is told. The watchdog is fed only while every
loop keeps its word (`vitals`): a process whose event loop turns but whose sender hangs is restarted all the same.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Protocol

from waemitter.runtime.supervise import Stop

STATUS_EVERY: Final = 10.0  # seconds


class Observer(Protocol):
    def loops_stalled(self, *, loops: Sequence[str]) -> None: ...


class ServiceManager:
    def __init__(self, address: str | None, *, watchdog: float | None = None) -> None:
        """`address`: a path, or `@name` in the abstract namespace; `watchdog`: seconds until silence is a failure."""
        self._address = None if address is None else address.replace("@", "\0", 1)
        self._watchdog = watchdog

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> ServiceManager:
        """As systemd sets it: WATCHDOG_USEC counts for the process of WATCHDOG_PID alone."""
        watched = environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        period = environ.get("WATCHDOG_USEC", "")
        return cls(
            environ.get("NOTIFY_SOCKET") or None,
            watchdog=int(period) / 1e6 if watched and period.isdecimal() else None,
        )

    def ready(self) -> None:
        self._tell("READY=1")

    async def run(
        self,
        stop: Stop,
        *,
        observer: Observer,
        status: Callable[[], str],
    ) -> None:
        """Feed the watchdog and refresh the STATUS line until told to stop; then say so."""
        pause = STATUS_EVERY if self._watchdog is None else min(self._watchdog / 3, STATUS_EVERY)
        stalled: list[str] = []
        while True:
            before, stalled = stalled, stop.vitals.overdue()
            if stalled and stalled != before:
                observer.loops_stalled(loops=stalled)
            told = f"STATUS=stalled: {', '.join(stalled)}" if stalled else f"STATUS={status()}"
            self._tell(told if stalled else f"{told}\nWATCHDOG=1")
            if await stop.sleep(pause):
                break
        self._tell("STOPPING=1\nSTATUS=finishing what it holds")

    def _tell(self, words: str) -> None:
        if self._address is None:
            return
        with (
            contextlib.suppress(OSError),  # the manager is away: that is no fault of ours
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as out,
        ):
            out.settimeout(0)
            out.sendto(words.encode(), self._address)
