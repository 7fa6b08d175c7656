"""From the journal to the splitter, within one process: what was just committed need not be asked for.

A webhook that is handed over was inserted as claimed: one update of its row less, and its body does not come back over the wire.
Should this process die, the claim ends like any other. What finds no room is inserted as due, and claimed by whoever comes first.
"""

from __future__ import annotations

import datetime
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from waemitter.inbox.journal.records import Entry
from waemitter.inbox.store import Webhook

MOST: Final = 4000
"""Webhooks that wait: what is worked off within a part of their lease."""
MOST_BYTES: Final = 16 * 1024 * 1024
FRESH: Final = 0.5
"""The part of a lease within which work on a webhook must begin; then it is left to whoever claims it next."""


class LocalHandover:
    def __init__(
        self, *, lease: datetime.timedelta, clock: Callable[[], float], source: str = "whatsapp"
    ) -> None:
        """`clock` in seconds, monotonic. `source`: whose webhooks the splitter works off; others find no room here."""
        self._lease = lease
        self._source = source
        self._clock = clock
        self._waiting: Final = deque[tuple[float, Webhook]]()
        self._bytes = 0
        self._closed = False

    def room(self, entries: Sequence[Entry]) -> datetime.timedelta | None:
        full = len(self._waiting) + len(entries) > MOST or self._bytes > MOST_BYTES
        others = any(entry.source != self._source for entry in entries)
        return None if full or others or self._closed else self._lease

    def take(self, ids: Sequence[int], entries: Sequence[Entry]) -> None:
        until = self._clock() + self._lease.total_seconds() * FRESH
        for webhook_id, entry in zip(ids, entries, strict=True):
            self._waiting.append((until, Webhook(webhook_id, entry.source, entry.body, 1)))
            self._bytes += len(entry.body)

    def next(self, limit: int) -> list[Webhook]:
        """The oldest that are still fresh, at most so many."""
        now = self._clock()
        found: list[Webhook] = []
        while self._waiting and len(found) < limit:
            until, webhook = self._waiting.popleft()
            self._bytes -= len(webhook.body)
            if until > now:
                found.append(webhook)
        return found

    def close(self) -> list[Webhook]:
        """Take no more; returns what still waits."""
        self._closed = True
        return self.next(len(self._waiting))
