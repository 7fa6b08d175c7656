"""Statuses that came before their message was known: tried again while any wait, and given up in the end.

A status normally brings our own echo, and its message is known before it is sent. It waits here when it brings none and the
answer that names its wamid has not been stored yet; what another application on the same number sent never gets known.
"""

import datetime
from collections.abc import Callable, Sequence
from typing import Final

from waemitter.inbox.store import InboxStore
from waemitter.observe.events import Events
from waemitter.runtime.due_loop import Claim

EVERY: Final = 5.0  # seconds between two looks, while any wait
PATIENCE: Final = datetime.timedelta(minutes=15)  # longer than any grace of an unconfirmed message
AT_ONCE: Final = 300  # statuses in one statement


class ParkedStatuses:
    """A DueTable without rows of its own: all is done by the claim."""

    def __init__(
        self, store: InboxStore, *, events: Events, lanes_freed: Callable[[], None]
    ) -> None:
        """`lanes_freed()`: a status ended a message that others waited for."""
        self._store = store
        self._events = events
        self._lanes_freed = lanes_freed

    async def claim(self, limit: int) -> Claim[None]:
        del limit
        applied, waiting = await self._store.retry_parked(patience=PATIENCE, limit=AT_ONCE)
        if applied.counts:
            self._events.statuses_applied(applied.counts)
        for resolution, count in applied.resolutions():
            self._events.unconfirmed_resolved(resolution=resolution, count=count)
        if applied.freed:
            self._lanes_freed()
        return Claim((), next_due=EVERY if waiting else None)

    async def work(self, row: None) -> None: ...

    async def release(self, rows: Sequence[None]) -> None: ...
