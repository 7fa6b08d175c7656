"""Files that customers sent are kept for as long as the settings say, and no longer than their message."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Final

from waemitter.errors import DatabaseUnreachable
from waemitter.inbox.media.fetcher import PREFIX
from waemitter.inbox.media.shelf import Shelf
from waemitter.inbox.media.store import InboundMediaStore
from waemitter.observe.events import Events
from waemitter.runtime.supervise import Stop

INTERVAL: Final = 3600.0
BATCH: Final = 200
ABANDONED: Final = 86_400.0
"""Seconds after which a file that never became whole was left by a daemon that died."""


class MediaRetention:
    def __init__(
        self,
        store: InboundMediaStore,
        shelf: Shelf,
        *,
        staging: Path,
        keep: float,
        events: Events,
        jitter: Callable[[], float],
    ) -> None:
        """`keep` in seconds; `staging`: where files lie that are not whole yet."""
        self._store = store
        self._shelf = shelf
        self._staging = staging
        self._keep = timedelta(seconds=keep)
        self._events = events
        self._jitter = jitter

    async def run(self, stop: Stop) -> None:
        while not stop.requested.is_set():
            try:
                await self.sweep()
            except DatabaseUnreachable as error:
                self._events.database_lost(error=str(error))
            except OSError as error:  # the disk or the bucket; in an hour it is tried again
                self._events.media_sweep_failed(error=error.strerror or str(error))
            await stop.sleep(INTERVAL * self._jitter())

    async def sweep(self) -> int:
        """Remove what is due, files first, so that none is forgotten; the number of rows that went with them."""
        await asyncio.to_thread(_tidy, self._staging)
        count = 0
        while expired := await self._store.expired(self._keep, limit=BATCH):
            for each in expired:
                if each.path is not None:
                    await self._shelf.remove(each.path)
            await self._store.forget([each.id for each in expired])
            count += len(expired)
        if count:
            self._events.media_expired(count=count)
        return count


def _tidy(staging: Path) -> None:
    long_ago = time.time() - ABANDONED
    for partial in staging.glob(f"{PREFIX}*"):
        try:
            if partial.stat().st_mtime < long_ago:
                partial.unlink()
        except FileNotFoundError:  # it became whole just now
            continue
