"""Files that customers sent are fetched from Meta, checked and kept, a few at once; no message waits for its file."""

from __future__ import annotations

import asyncio
import hashlib
import os
import tempfile
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple, Protocol

from waemitter.errors import DatabaseUnreachable
from waemitter.inbox.media.shelf import Shelf
from waemitter.inbox.media.store import Due, InboundMediaStore
from waemitter.observe.events import Events
from waemitter.runtime.due_loop import Claim
from waemitter.whatsapp.inbound_media import Described, DownloadFailed, extension

AT_ONCE: Final = 4
TIME: Final = 300.0
"""Seconds for a file, in one try: 100 MB over a slow line."""
LEASE: Final = timedelta(minutes=10)
DELAYS: Final = (5.0, 30.0, 120.0, 600.0, 3600.0, 21_600.0)
"""Seconds before each further try: seven tries in seven hours, of the seven days that Meta keeps the file."""
PREFIX: Final = "waemitter-media-"
"""Of the names of files that are not whole yet."""


class Downloader(Protocol):
    """A number's way to Meta; both raise DownloadFailed."""

    async def describe_media(self, media_id: str) -> Described: ...

    async def download_media(
        self, url: str, *, most: int, timeout: float, write: Callable[[bytes], Awaitable[None]]
    ) -> None: ...


class _Arrived(NamedTuple):
    sha256: str
    size: int


class Fetcher:
    """A DueTable of files."""

    def __init__(
        self,
        store: InboundMediaStore,
        shelf: Shelf,
        numbers: Mapping[str, Downloader],
        *,
        staging: Path,
        most_bytes: int,
        events: Events,
        jitter: Callable[[], float],
        clock: Callable[[], float],
    ) -> None:
        """`numbers` by channel; `staging`: a folder for files that are not whole yet; `clock` in seconds, monotonic."""
        self._store = store
        self._shelf = shelf
        self._numbers = numbers
        self._staging = staging
        self._most_bytes = most_bytes
        self._events = events
        self._jitter = jitter
        self._clock = clock

    async def claim(self, limit: int) -> Claim[Due]:
        channels = tuple(self._numbers)
        files = await self._store.claim(channels, limit, lease=LEASE)
        if len(files) == limit:
            return Claim(files, next_due=0.0)
        return Claim(files, next_due=await self._store.next_due(channels))

    async def release(self, rows: Sequence[Due]) -> None:
        with suppress(DatabaseUnreachable):  # their leases end
            await self._store.release(rows)

    async def work(self, row: Due) -> None:
        try:
            if row.tries > len(DELAYS) + 1:
                await self._failed(row, "every daemon that fetched it died meanwhile", again=False)
                return
            try:
                await self._fetch(row)
            except DownloadFailed as error:
                await self._failed(row, str(error), again=error.again)
            except DatabaseUnreachable:
                raise
            except Exception as error:  # noqa: BLE001 a full disk, a bucket that is away: it may pass
                reason = error.strerror if isinstance(error, OSError) else None
                await self._failed(row, reason or str(error) or type(error).__name__, again=True)
        except DatabaseUnreachable as error:
            self._events.database_lost(error=str(error))  # the lease ends, and it is fetched again

    async def again(self, media: int) -> None:
        """Fetch one that was given up, for its dead letter's retry; nothing to do when it is there by now, or forgotten.

        Raises DownloadFailed, or what the disk or the bucket raises.
        """
        row = await self._store.claim_one(tuple(self._numbers), media, lease=LEASE)
        if row is None:
            if await self._store.missing(media):
                raise DownloadFailed("another daemon fetches it, or knows its number")
            return
        try:
            await self._fetch(row)
        except DatabaseUnreachable:
            raise
        except BaseException as error:
            await self._store.give_up(row, error=str(error) or type(error).__name__, letter=False)
            raise

    async def _fetch(self, row: Due) -> None:
        started = self._clock()
        number = self._numbers[row.channel]
        with _partial(self._staging) as partial:
            with partial.open("wb") as file:
                described, arrived = await self._download(row, number, file)
            wanted = described.sha256 or row.sha256
            if wanted is not None and wanted != arrived.sha256:
                raise DownloadFailed("what arrived has another digest than Meta told")
            mime_type = described.mime_type or row.mime_type
            key = f"{row.day}/{arrived.sha256}{extension(mime_type)}"
            path = await self._shelf.keep(partial, key, mime_type=mime_type)
        await self._store.keep(
            row, path=path, mime_type=mime_type, sha256=arrived.sha256, size=arrived.size
        )
        self._events.media_stored(
            channel=row.channel, media=row.id, bytes=arrived.size, took=self._clock() - started
        )

    async def _download(
        self, row: Due, number: Downloader, file: BinaryIO
    ) -> tuple[Described, _Arrived]:
        """An address that is gone is asked for once more: it lives for five minutes, and may be replaced before."""
        for last in (False, True):
            described = await number.describe_media(row.media_id)
            if described.size is not None and described.size > self._most_bytes:
                raise DownloadFailed(_too_large(self._most_bytes), again=False)
            try:
                return described, await self._received(number, described.url, file)
            except DownloadFailed as error:
                if last or not error.moved:
                    raise
        raise AssertionError  # the loop has returned or raised

    async def _received(self, number: Downloader, url: str, file: BinaryIO) -> _Arrived:
        file.seek(0)
        file.truncate()
        digest = hashlib.sha256()

        def take(chunk: bytes) -> None:
            digest.update(chunk)
            file.write(chunk)

        async def write(chunk: bytes) -> None:
            await asyncio.to_thread(take, chunk)

        await number.download_media(url, most=self._most_bytes, timeout=TIME, write=write)
        return _Arrived(digest.hexdigest(), file.tell())

    async def _failed(self, row: Due, reason: str, *, again: bool) -> None:
        if again and row.tries <= len(DELAYS):
            delay = DELAYS[row.tries - 1] * self._jitter()
            await self._store.retry(row, delay=timedelta(seconds=delay), error=reason)
            self._events.media_retried(
                channel=row.channel, media=row.id, attempt=row.tries, error=reason, delay=delay
            )
        else:
            await self._store.give_up(row, error=reason, letter=True, again=again)
            self._events.media_failed(
                channel=row.channel, media=row.id, attempt=row.tries, error=reason
            )


@contextmanager
def _partial(staging: Path) -> Iterator[Path]:
    """An empty file for its owner and group; gone at the end, unless it was moved."""
    descriptor, name = tempfile.mkstemp(prefix=PREFIX, dir=staging)
    try:
        os.fchmod(descriptor, 0o640)
        os.close(descriptor)
        yield Path(name)
    finally:
        Path(name).unlink(missing_ok=True)


def _too_large(most: int) -> str:
    return f"it is larger than {most} bytes: WAEMITTER_MEDIA__MAX_BYTES allows no more"
