"""Statuses that came before their message was known: tried again while any wait, and given up in the end.

A status normally brings our own echo, and its message is known before it is sent. It waits here when it brings none and the
answer that names its wamid has not been stored yet; what another application on the same number sent never gets known.
"""

import datetime
from collections.abc import Callable, Sequence
from typing import Final

from waemitter.inbox.failures import Failure, Failures
from waemitter.inbox.store import InboxStore
from waemitter.observe.events import Events
from waemitter.outbox.store import OutboxStore, StatusUpdate
from waemitter.runtime.due_loop import Claim
from waemitter.whatsapp.errors import classify_status_error

EVERY: Final = 5.0  # seconds between two looks, while any wait
PATIENCE: Final = datetime.timedelta(minutes=15)  # longer than any grace of an unconfirmed message
AT_ONCE: Final = 300  # statuses in one statement


class ParkedStatuses:
    """A DueTable without rows of its own: all is done by the claim."""

    def __init__(
        self,
        store: InboxStore,
        outbox: OutboxStore,
        failures: Failures,
        *,
        events: Events,
        lanes_freed: Callable[[], None],
    ) -> None:
        """`lanes_freed()`: a status ended a message that others waited for."""
        self._store = store
        self._outbox = outbox
        self._failures = failures
        self._events = events
        self._lanes_freed = lanes_freed

    async def claim(self, limit: int) -> Claim[None]:
        del limit
        waiting = await self.retry()
        return Claim((), next_due=EVERY if waiting else None)

    async def retry(self, limit: int = AT_ONCE) -> bool:
        """Apply what is known by now, and drop what never will be. Whether any stay parked."""
        async with self._store.transaction() as connection:
            updates = await self._store.take_parked(connection, limit=limit)
            updates.sort(key=lambda update: update.message_id or 0)
            applied = await self._outbox.apply_statuses(connection, updates)
            failed = [_failure(update) for update in updates if update.word == "failed"]
            tell = await self._failures.apply(connection, failed) if failed else None
        dropped = await self._store.drop_parked(patience=PATIENCE, limit=limit)
        if applied.counts:
            self._events.statuses_applied(applied.counts)
        if dropped.counts:
            self._events.statuses_applied(
                {(word, "unknown"): count for word, count in dropped.counts.items()}
            )
        for resolution, count in applied.resolutions():
            self._events.unconfirmed_resolved(resolution=resolution, count=count)
        if applied.freed:
            self._lanes_freed()
        if tell is not None:
            tell()
        return dropped.waiting

    async def work(self, row: None) -> None: ...

    async def release(self, rows: Sequence[None]) -> None: ...


def _failure(update: StatusUpdate) -> Failure:
    """What its code means for the message; what it means for the number was heeded when it came."""
    error = {"code": update.code, "message": update.reason}
    return Failure(update, None, classify_status_error([error]))
