"""`session-cleanup`: sessions nobody came back to, and dead letters that ended long ago."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Final

from waemitter.jobs.cleanup.store import CleanupStore
from waemitter.jobs.job import Summary
from waemitter.observe.events import Events

BATCH: Final = 1000


class SessionCleanup:
    def __init__(
        self,
        store: CleanupStore,
        *,
        ttl: timedelta,
        dead_letters: timedelta,
        events: Events,
        clock: Callable[[], float],
    ) -> None:
        """`ttl`: how long a session outlives its last message; `dead_letters`: how long they are kept once they ended."""
        self._store = store
        self._ttl = ttl
        self._dead_letters = dead_letters
        self._events = events
        self._clock = clock

    async def run(self) -> Summary:
        started = self._clock()
        self._events.session_cleanup_started()
        cutoff = await self._store.now() - self._ttl
        sessions = await self._all(self._store.PURGE_SESSIONS, self._ttl)
        letters = await self._all(self._store.PURGE_LETTERS, self._dead_letters)
        took = self._clock() - started
        self._events.session_cleanup_completed(sessions=sessions, letters=letters, took=took)
        return {
            "success": True,
            "sessions": {
                "deleted": sessions,
                "ttlHours": _number(self._ttl / timedelta(hours=1)),
                "cutoffTime": cutoff.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            },
            "dlq": {
                "deleted": letters,
                "retentionDays": _number(self._dead_letters / timedelta(days=1)),
            },
            "durationMs": round(took * 1000),
        }

    async def _all(self, statement: str, older_than: timedelta) -> int:
        total = 0
        while deleted := await self._store.purge(statement, older_than, BATCH):
            total += deleted
        return total


def _number(value: float) -> float:
    """Whole ones without a fraction."""
    return int(value) if value == int(value) else round(value, 3)
