"""What several test modules need: to wait for a condition, and servers to ill-treat."""

from __future__ import annotations

import asyncio
import inspect
import os
import shutil
import subprocess
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TypeVar, cast

import pytest

from waemitter.db.embedded import EmbeddedPostgres

T = TypeVar("T")

SETTINGS: Final = {
    "fsync": "off",
    "full_page_writes": "off",
    "max_connections": "200",
    "log_min_messages": "fatal",  # tests provoke errors by the hundred
    "waemitter.slow_claim": "1 hour",  # a busy machine is not what makes claims slow here
}


ROOM: Final = 2 * 1024**3
"""Bytes that a whole session stays well below."""


async def eventually(
    condition: Callable[[], Awaitable[T] | T], *, within: float = 10, every: float = 0.02
) -> T:
    """Return the condition's result once it is truthy; within `within` seconds, or fail.

    A failure in between (an exception, or a falsy result) is what is being waited out; the last one
    is reported. None counts as "not yet", since it is what a query for a missing row returns: a
    function made of assert statements ends with `return True`.
    """
    last = "it never came to an end"
    cause: Exception | None = None
    try:
        async with asyncio.timeout(within):
            while True:
                try:
                    outcome = condition()
                    if inspect.isawaitable(outcome):
                        outcome = await cast("Awaitable[T]", outcome)
                    if outcome:
                        return outcome
                    last, cause = f"it was {outcome!r}", None
                except Exception as error:  # noqa: BLE001  # any failure may pass with time
                    last, cause = f"{type(error).__name__}: {error}", error
                await asyncio.sleep(every)
    except TimeoutError:
        raise AssertionError(f"not within {within} s; at last {last}") from cause


@contextmanager
def scratch() -> Iterator[Path]:
    # Not pytest's tmp_path: its parents are closed to the account that Postgres runs as under root.
    with tempfile.TemporaryDirectory(prefix="waemitter-", dir=memory()) as name:
        yield Path(name)


def memory() -> str | None:
    """A file system in memory, if this machine has a roomy one: a cluster is a thousand files."""
    place = "/dev/shm"
    if not os.access(place, os.W_OK):
        return None
    state = os.statvfs(place)
    roomy = state.f_bavail * state.f_frsize > ROOM
    return place if roomy and not state.f_flag & os.ST_NOEXEC else None


def chosen_postgres(directory: Path, **settings: str) -> EmbeddedPostgres:
    return postgres_of(os.environ.get("WAEMITTER_TEST_POSTGRES", "18"), directory, **settings)


def postgres_of(choice: str, directory: Path, **settings: str) -> EmbeddedPostgres:
    settings = SETTINGS | settings
    if choice != "system":
        return EmbeddedPostgres(directory, version=int(choice), settings=settings)
    binaries = system_binaries()
    if binaries is None:
        pytest.skip("no Postgres of the system's own is installed")
    return EmbeddedPostgres(directory, settings=settings, binaries=binaries)


def system_binaries() -> Path | None:
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: path.parts)
    found = str(debian[-1]) if debian else shutil.which("initdb")
    return Path(found).resolve().parent if found else None


def copied(cluster: Path, directory: Path) -> Path:
    # -a keeps the owner, which the server insists on.
    subprocess.run(["cp", "-a", cluster / "data", directory], check=True)
    return directory
