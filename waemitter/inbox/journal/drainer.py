"""Once Postgres is back, what lies in the spool goes into the table: in order, and once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from waemitter.errors import DatabaseUnreachable
from waemitter.inbox.journal.records import Found, Spooled
from waemitter.inbox.journal.spool import Segment, Spool
from waemitter.observe.events import Events
from waemitter.runtime.supervise import Stop

BATCH: Final = 500  # records in one transaction
BATCH_BYTES: Final = 8 * 1024 * 1024
RETRY: Final = 1.0  # seconds between two tries while Postgres is away
ADOPT_EVERY: Final = 30.0  # seconds between two looks for what a daemon that died has left


class Store(Protocol):
    async def drained(self, name: str) -> int: ...
    async def drain(
        self, name: str, records: Sequence[Spooled], *, start: int, end: int
    ) -> None: ...
    async def forget(self, name: str) -> None: ...


class Drainer:
    def __init__(
        self,
        spool: Spool,
        store: Store,
        *,
        written: Callable[[], None],
        events: Events,
        retry: float = RETRY,
    ) -> None:
        """`written()`: there is something to split. `retry` in seconds."""
        self._spool = spool
        self._store = store
        self._written = written
        self._events = events
        self._retry = retry

    async def run(self, stop: Stop) -> None:
        filled = self._spool.filled
        with stop.waking(filled.set):
            while not stop.requested.is_set():
                try:
                    async with asyncio.timeout(ADOPT_EVERY):
                        await filled.wait()
                except TimeoutError:
                    await self._spool.adopt()
                    continue
                if not stop.requested.is_set() and not await self._drained():
                    await stop.sleep(self._retry)

    async def _drained(self) -> bool:
        """Drain the oldest file. False: Postgres is away."""
        oldest = await self._spool.oldest()
        self._events.spool_measured(bytes=self._spool.size)
        if oldest is None:
            return True
        segment, reading = oldest
        try:
            start = await self._store.drained(segment.name)
            left = [found for found in reading.found if found.end > start]
            refused = await self._drain(segment, left, start)
        except DatabaseUnreachable as error:
            self._events.database_lost(error=str(error))
            return False
        self._events.spool_drained(count=len(left) - refused)
        if refused or reading.skipped or reading.torn:
            unread = reading.skipped + reading.torn
            self._events.spool_damaged(file=segment.name, bytes=unread, refused=refused)
            await self._spool.put_aside(segment)
        else:
            await self._spool.remove(segment)
        self._events.spool_measured(bytes=self._spool.size)
        return await self._forgotten(segment)

    async def _forgotten(self, segment: Segment) -> bool:
        try:
            await self._store.forget(segment.name)
        except DatabaseUnreachable as error:  # a row is left over, of a file that is gone
            self._events.database_lost(error=str(error))
            return False
        return True

    async def _drain(self, segment: Segment, records: Sequence[Found], start: int) -> int:
        """Returns how many the database refused, for good."""
        refused = 0
        for batch in _batches(records):
            end = batch[-1].end
            try:
                await self._store.drain(
                    segment.name, [found.record for found in batch], start=start, end=end
                )
            except DatabaseUnreachable:
                raise
            except Exception:  # noqa: BLE001 whatever one of them has, the others shall not suffer from
                refused += await self._one_by_one(segment, batch, start)
            start = end
            self._written()
        return refused

    async def _one_by_one(self, segment: Segment, records: Sequence[Found], start: int) -> int:
        refused = 0
        for found in records:
            try:
                await self._store.drain(segment.name, [found.record], start=start, end=found.end)
            except DatabaseUnreachable:
                raise
            except Exception:  # noqa: BLE001 it stays in the file, which is put aside
                refused += 1
                await self._store.drain(segment.name, [], start=start, end=found.end)
            start = found.end
        return refused


def _batches(records: Sequence[Found]) -> list[list[Found]]:
    batches: list[list[Found]] = []
    size = 0
    for found in records:
        size += len(found.record.entry.body)
        if not batches or len(batches[-1]) >= BATCH or size > BATCH_BYTES:
            batches.append([])
            size = len(found.record.entry.body)
        batches[-1].append(found)
    return batches
