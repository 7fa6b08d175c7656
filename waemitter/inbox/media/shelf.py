"""Where files that customers sent are kept: a directory here, a bucket in `s3`."""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from pathlib import Path
from typing import Final, Protocol

from waemitter.errors import UsageError

PARTIAL: Final = ".partial"
"""The folder in which files lie until they are whole."""


class Shelf(Protocol):
    async def keep(self, file: Path, key: str, *, mime_type: str | None) -> str:
        """Keep a whole file durably under its key and say where it is; the same key again is the same file.

        `file` may be moved away. Raises OSError.
        """
        ...

    async def read(self, path: str) -> bytes:
        """Read what `keep` gave. Raises OSError, of what is not its own too."""
        ...

    async def remove(self, path: str) -> None:
        """Remove what `keep` gave; what is gone already, or is not its own, is left alone. Raises OSError."""
        ...


class Directory:
    """Files in folders by day: `2026-07-01/<sha256>.jpg`."""

    def __init__(self, root: Path) -> None:
        self._root = root.absolute()
        self.staging = self._root / PARTIAL

    def prepare(self) -> None:
        """Raises UsageError when nothing can be written there."""
        try:
            self.staging.mkdir(mode=0o750, parents=True, exist_ok=True)
            probe = self.staging / f"probe-{os.getpid()}"
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise UsageError(
                f"media.directory {self._root} cannot be written to ({error.strerror}):"
                " create it, or let the daemon's user write there"
            ) from error

    async def keep(self, file: Path, key: str, *, mime_type: str | None) -> str:
        del mime_type  # the name's extension tells
        target = self._root / key
        await asyncio.to_thread(_move, file, target)
        return str(target)

    async def read(self, path: str) -> bytes:
        if not self._holds(Path(path)):
            raise FileNotFoundError(path)
        return await asyncio.to_thread(Path(path).read_bytes)

    async def remove(self, path: str) -> None:
        if self._holds(target := Path(path)):
            await asyncio.to_thread(_remove, target)

    def _holds(self, target: Path) -> bool:
        return target.parent.parent == self._root and ".." not in target.parts


def _move(file: Path, target: Path) -> None:
    folder = target.parent
    folder.mkdir(mode=0o750, exist_ok=True)
    _sync(file)
    file.replace(target)
    _sync(folder)
    _sync(folder.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(target: Path) -> None:
    target.unlink(missing_ok=True)
    with suppress(OSError):  # other files of that day are still there
        target.parent.rmdir()
