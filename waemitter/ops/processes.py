"""Child processes that speak one JSON object a line: the daemon, the simulator."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import orjson

from waemitter.errors import WaemitterError

KEPT: Final = 2000  # lines
LINE: Final = 1024 * 1024  # bytes of the longest line that is read whole
POLITE: Final = 0.5  # seconds between the first request to end and the second
PATIENCE: Final = 45.0  # seconds until it is ended by force: longer than its own grace


class ChildFailed(WaemitterError):
    """A child ended, or said nothing, where it should have said something."""


class Child:
    """One running child; its output is read all the time, and kept to be asked."""

    def __init__(
        self,
        name: str,
        process: asyncio.subprocess.Process,
        *,
        signals: Sequence[signal.Signals] = (signal.SIGTERM,),
    ) -> None:
        """`signals`: what `stop` asks it with; most children take a second one for "at once"."""
        self.name = name
        self.process = process
        self._signals: Final = signals
        self.lines: Final[deque[str]] = deque(maxlen=KEPT)
        self.events: Final[deque[dict[str, Any]]] = deque(maxlen=KEPT)
        self._heard: Final = asyncio.Condition()

    @property
    def pid(self) -> int:
        return self.process.pid

    async def read(self) -> None:
        assert self.process.stdout is not None  # noqa: S101 it was opened as a pipe
        async for raw in self.process.stdout:
            line = raw.decode(errors="replace").rstrip()
            self.lines.append(line)
            if line.startswith("{"):
                with contextlib.suppress(orjson.JSONDecodeError):
                    self.events.append(orjson.loads(line))
            async with self._heard:
                self._heard.notify_all()
        async with self._heard:
            self._heard.notify_all()

    async def event(self, name: str, *, within: float = 30.0) -> dict[str, Any]:
        """The first event of that name, past or to come. Raises ChildFailed with the child's last words."""
        try:
            async with asyncio.timeout(within), self._heard:
                while True:
                    for found in self.events:
                        if found.get("event") == name:
                            return found
                    if self.process.returncode is not None or self.process.stdout is None:
                        break
                    if self.process.stdout.at_eof():
                        break
                    await self._heard.wait()
        except TimeoutError:
            pass
        raise ChildFailed(f"{self.name} did not say {name}; its last words:\n{self.last_words()}")

    def last_words(self, lines: int = 15) -> str:
        return "\n".join(list(self.lines)[-lines:])

    def signal(self, number: signal.Signals) -> None:
        if self.process.returncode is None:
            self.process.send_signal(number)

    async def stop(self) -> int:
        """Ask it to end, ask again, wait, and end it if it does not. Returns its exit code."""
        *first, last = self._signals
        for number, patience in (*((number, POLITE) for number in first), (last, PATIENCE)):
            self.signal(number)  # a second one must not meet a child that is just leaving
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(patience):
                    return await self.process.wait()
        self.signal(signal.SIGKILL)
        return await self.process.wait()


@asynccontextmanager
async def child(
    name: str,
    arguments: Sequence[str],
    *,
    environ: Mapping[str, str] | None = None,
    signals: Sequence[signal.Signals] = (signal.SIGTERM,),
) -> AsyncIterator[Child]:
    """Run `python -m waemitter …`; whatever happens, it has ended afterwards."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        stdin=asyncio.subprocess.DEVNULL,
        env={**os.environ, **(environ or {})},
        limit=LINE,
        start_new_session=True,  # a Ctrl-C is ours to hand on, once
    )
    running = Child(name, process, signals=signals)
    reader = asyncio.create_task(running.read())
    try:
        yield running
    finally:
        try:
            await running.stop()
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await reader
