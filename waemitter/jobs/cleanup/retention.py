"""`retention`: what is old goes, a batch at a time, with a pause after each that is as long as the batch took.

So it takes half a connection at the most, and holds no lock that a send would wait for: rows that are locked are passed by.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, TypeVar

from waemitter.jobs.cleanup.store import CleanupStore
from waemitter.jobs.job import Summary
from waemitter.observe.events import Events

T = TypeVar("T")

BATCH: Final = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Keep:
    """How long rows are kept."""

    outbox: timedelta
    inbound: timedelta
    buffers: timedelta
    webhook_logs: timedelta
    dead_letters: timedelta
    job_runs: timedelta
    agents: timedelta
    audit: timedelta
    events: timedelta
    webhook_bodies: timedelta | None = None  # as long as their rows


class Retention:
    def __init__(
        self, store: CleanupStore, *, keep: Keep, events: Events, clock: Callable[[], float]
    ) -> None:
        """`clock` in seconds, monotonic."""
        self._store = store
        self._keep = keep
        self._events = events
        self._clock = clock

    async def run(self) -> Summary:
        started = self._clock()
        keep, store = self._keep, self._store
        bodies = keep.webhook_bodies
        blanked = 0 if bodies is None else await self._emptied(store.BLANK_WEBHOOKS, bodies)
        deleted = {
            "outbox": await self._outbox(),
            "inbound": await self._emptied(store.PURGE_INBOUND, keep.inbound),
            "buffers": await self._emptied(store.PURGE_BUFFERS, keep.buffers),
            "transitions": await self._emptied(store.PURGE_TRANSITIONS, keep.inbound),
            "webhookLogs": await self._emptied(store.PURGE_WEBHOOKS, keep.webhook_logs),
            "processedKeys": await self._emptied(store.PURGE_KEYS, keep.webhook_logs),
            "deadLetters": await self._emptied(store.PURGE_LETTERS, keep.dead_letters),
            "jobRuns": await self._emptied(store.PURGE_RUNS, keep.job_runs),
            "alerts": await self._emptied(store.PURGE_ALERTS, keep.job_runs),
            "agentContexts": await self._emptied(store.PURGE_CONTEXTS, keep.agents),
            "agentSessions": await self._emptied(store.PURGE_ACCOUNTS, keep.agents),
            "audit": await self._emptied(store.PURGE_AUDIT, keep.audit),
            "events": await self._emptied(store.PURGE_EVENTS, keep.events),
        }
        took = self._clock() - started
        self._events.retention_completed(deleted=sum(deleted.values()), took=took)
        return {
            "success": True,
            "deleted": deleted,
            "blanked": blanked,
            "durationMs": round(took * 1000),
        }

    async def _outbox(self) -> int:
        total, behind = 0, 0
        while True:
            (deleted, last) = await self._paced(
                self._store.purge_outbox(self._keep.outbox, BATCH, behind)
            )
            total += deleted
            if last is None:
                return total
            behind = last

    async def _emptied(self, statement: str, older_than: timedelta) -> int:
        total = 0
        while deleted := await self._paced(self._store.purge(statement, older_than, BATCH)):
            total += deleted
            if deleted < BATCH:
                break
        return total

    async def _paced(self, batch: Awaitable[T]) -> T:
        started = self._clock()
        result = await batch
        await asyncio.sleep(self._clock() - started)
        return result
