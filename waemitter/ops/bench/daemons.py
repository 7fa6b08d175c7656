"""A daemon under measurement: a process of its own, whose log goes to a file.

It logs a line for each message. Under a service manager those lines go to a file or a journal; were they read and parsed in the
bench's process, the reading would cost the very cores that are measured.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import orjson

from waemitter.ops.bench.cloud import BenchFailed
from waemitter.ops.bench.meter import Meter

LOOK_EVERY: Final = 0.02  # seconds
START_WITHIN: Final = 30.0
STOP_WITHIN: Final = 45.0  # longer than its own grace
LAST_WORDS: Final = 15  # lines


@dataclass(frozen=True, slots=True)
class Daemon:
    """A daemon that was ready `started_in` seconds after its process was asked for."""

    address: str
    started_in: float
    meter: Meter
    log: Path

    def said(self) -> list[str]:
        """The names of its warnings, and of what ended them, as often as they were logged."""
        lines = self.log.read_bytes().splitlines()
        return [orjson.loads(line)["event"] for line in lines if b'"event":"SNAPSHOT_' in line]


@asynccontextmanager
async def running_daemon(environ: Mapping[str, str], log: Path) -> AsyncIterator[Daemon]:
    """Start one, stop it in the end. Raises BenchFailed with its last words when it ends before."""
    born = time.time()
    with log.open("wb") as out:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "waemitter", "run"),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            env={**os.environ, **environ},
            start_new_session=True,  # a Ctrl-C is ours to hand on, once
        )
    try:
        started, ready = await _introduction(process, log)
        daemon = Daemon(started["address"], _at(ready) - born, Meter(process.pid), log)
        async with _alive(process, log):
            yield daemon
    finally:
        await _stop(process)


async def _introduction(
    process: asyncio.subprocess.Process, log: Path
) -> tuple[dict[str, Any], dict[str, Any]]:
    """What it said when it had started, and when it was ready: each line carries its own time."""
    try:
        async with asyncio.timeout(START_WITHIN):
            while process.returncode is None:
                said = _events(log)
                if "DAEMON_READY" in said:
                    return said["DAEMON_STARTED"], said["DAEMON_READY"]
                await asyncio.sleep(LOOK_EVERY)
    except TimeoutError:
        pass
    raise BenchFailed(f"the daemon did not become ready; it said:\n{_last_words(log)}")


def _events(log: Path) -> dict[str, dict[str, Any]]:
    lines = (line for line in log.read_bytes().splitlines(keepends=True))
    events = [orjson.loads(line) for line in lines if line[:1] == b"{" and line[-1:] == b"\n"]
    return {event["event"]: event for event in events}


def _at(event: Mapping[str, Any]) -> float:
    return datetime.fromisoformat(event["timestamp"]).timestamp()


def _last_words(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-LAST_WORDS:])


@asynccontextmanager
async def _alive(process: asyncio.subprocess.Process, log: Path) -> AsyncIterator[None]:
    """End the block at once when the process ends: nothing more will be measured."""

    async def watch() -> None:
        code = await process.wait()
        raise BenchFailed(f"the daemon ended with {code}; it said:\n{_last_words(log)}")

    try:
        async with asyncio.TaskGroup() as group:
            watcher = group.create_task(watch())
            yield
            watcher.cancel()
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None


async def _stop(process: asyncio.subprocess.Process) -> None:
    if process.returncode is not None:
        return
    process.send_signal(signal.SIGTERM)
    try:
        async with asyncio.timeout(STOP_WITHIN):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
