"""Where webhooks wait on disk while Postgres is away: files that are only appended to, each batch synced before it counts.

A daemon holds an exclusive lock (flock) on every file that it writes or drains, so several may share a directory; what one left
behind when it died, another takes over. A file is removed once all of it is in the table.
"""

import asyncio
import contextlib
import errno
import fcntl
import os
import secrets
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from waemitter.errors import UsageError, WaemitterError
from waemitter.inbox.journal.records import Reading, decode

SUFFIX: Final = ".spool"
ASIDE: Final = ".damaged"
UNLOCKED: Final = ".new"
SEGMENT: Final = 16 * 1024 * 1024  # bytes, after which a new file is begun: one is read at once


class SpoolFull(WaemitterError):
    """Nothing more can be kept on disk: too much is there, or the disk is full or broken."""


class Segment:
    """One file, locked by this process for as long as it is held."""

    def __init__(self, path: Path, descriptor: int, size: int) -> None:
        self.path = path
        self.size = size
        self._descriptor = descriptor

    @property
    def name(self) -> str:
        return self.path.name

    def write(self, data: bytes) -> None:
        """Append and sync, or leave the file as it was. Raises OSError."""
        try:
            left = memoryview(data)
            while left:
                left = left[os.write(self._descriptor, left) :]
            os.fdatasync(self._descriptor)
        except OSError:
            os.ftruncate(self._descriptor, self.size)
            raise
        self.size += len(data)

    def read(self) -> Reading:
        return decode(os.pread(self._descriptor, self.size, 0))

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)
        self.close()

    def put_aside(self) -> None:
        """Keep it for a person to look at; nobody drains it any more."""
        self.path.rename(self.path.with_suffix(ASIDE))
        self.close()

    def close(self) -> None:
        """Let go of it: another daemon may take it over."""
        os.close(self._descriptor)


class Spool:
    """The segments that this process holds, in the order in which they were written."""

    def __init__(self, directory: Path, *, most_bytes: int) -> None:
        self._directory = directory
        self._most_bytes = most_bytes
        self._segments: list[Segment] = []
        self._current: Segment | None = None
        self._writing: Final = asyncio.Lock()
        self.filled: Final = asyncio.Event()

    @property
    def empty(self) -> bool:
        return not self._segments

    @property
    def size(self) -> int:
        """Bytes on disk that are not known to be in the table."""
        return sum(segment.size for segment in self._segments)

    async def open(self) -> None:
        """Make the directory and take over what lies there. Raises UsageError when that cannot be."""
        try:
            await asyncio.to_thread(self._prepare)
        except OSError as error:
            raise UsageError(
                f"the spool {self._directory} cannot be used ({error.strerror}): make it a directory that"
                " this user may write to, or set WAEMITTER_INBOX__SPOOL_DIR to one"
            ) from error
        await self.adopt()

    def _prepare(self) -> None:
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        probe = self._directory / f"{secrets.token_hex(8)}.probe"
        probe.touch(exist_ok=False)
        probe.unlink()

    async def adopt(self) -> None:
        """Take over the files that no process holds."""
        mine = {segment.path for segment in self._segments}
        found = await asyncio.to_thread(self._orphans, mine)
        self._segments = sorted([*self._segments, *found], key=lambda segment: segment.name)
        if self._segments:
            self.filled.set()

    def _orphans(self, mine: set[Path]) -> list[Segment]:
        found = [_locked(path) for path in self._directory.glob(f"*{SUFFIX}") if path not in mine]
        return [segment for segment in found if segment is not None]

    async def append(self, records: Sequence[bytes]) -> None:
        """Return when the records are on disk to stay. Raises SpoolFull."""
        data = b"".join(records)
        async with self._writing:
            if self.size + len(data) > self._most_bytes:
                raise SpoolFull(
                    "the spool holds as much as WAEMITTER_INBOX__SPOOL_MAX_BYTES allows"
                )
            try:
                segment = self._current or await self._next()
                self._current = segment
                await asyncio.to_thread(segment.write, data)
            except OSError as error:
                # What was written may not be what is read back: nothing is added to this file any more.
                self._current = None
                raise SpoolFull(f"the spool cannot be written: {error.strerror}") from error
            finally:
                if self._segments:
                    self.filled.set()
            if segment.size >= SEGMENT:
                self._current = None

    async def _next(self) -> Segment:
        segment = await asyncio.to_thread(self._begin)
        self._segments.append(segment)
        return segment

    def _begin(self) -> Segment:
        path = self._directory / f"{time.time_ns():020d}-{secrets.token_hex(4)}{SUFFIX}"
        unlocked = path.with_suffix(UNLOCKED)
        descriptor = os.open(unlocked, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_APPEND, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        unlocked.rename(path)  # nobody finds it before it is locked
        _sync_directory(self._directory)
        return Segment(path, descriptor, 0)

    async def oldest(self) -> tuple[Segment, Reading] | None:
        """The segment to drain next, whole; nothing is appended to it any more."""
        async with self._writing:
            if not self._segments:
                return None
            segment = self._segments[0]
            if segment is self._current:
                self._current = None
        return segment, await asyncio.to_thread(segment.read)

    async def remove(self, segment: Segment) -> None:
        """All of it is in the table."""
        await asyncio.to_thread(segment.remove)
        await asyncio.to_thread(_sync_directory, self._directory)
        self._forget(segment)

    async def put_aside(self, segment: Segment) -> None:
        await asyncio.to_thread(segment.put_aside)
        self._forget(segment)

    def _forget(self, segment: Segment) -> None:
        self._segments.remove(segment)
        if not self._segments:
            self.filled.clear()

    def close(self) -> None:
        """Let go of every file; what is in them stays."""
        for segment in self._segments:
            segment.close()
        self._segments.clear()
        self._current = None


def _locked(path: Path) -> Segment | None:
    """The file, if no other process holds it; an empty one is removed."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        if error.errno in {errno.EWOULDBLOCK, errno.EACCES}:
            return None
        raise
    state = os.fstat(descriptor)
    if (
        state.st_nlink == 0 or state.st_size == 0
    ):  # drained by another in this very moment, or never written
        with contextlib.suppress(FileNotFoundError):
            if state.st_nlink:
                path.unlink()
        os.close(descriptor)
        return None
    return Segment(path, descriptor, state.st_size)


def _sync_directory(directory: Path) -> None:
    """A new name lasts once its directory is on disk."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
