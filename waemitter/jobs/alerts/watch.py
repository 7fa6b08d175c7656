"""A daemon's own loop: it looks at its figures, and keeps true in the database what is wrong.

Nothing is written while nothing is wrong.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import Final

from waemitter.errors import DatabaseUnreachable
from waemitter.jobs.alerts.away import Away
from waemitter.jobs.alerts.conditions import of_figures
from waemitter.jobs.alerts.history import History, Series, Snapshot
from waemitter.jobs.alerts.rules import Limits
from waemitter.jobs.alerts.store import AlertStore
from waemitter.observe.events import Events
from waemitter.observe.instruments import BOUNDS
from waemitter.observe.metrics import Metrics
from waemitter.runtime.supervise import Stop

FORGOTTEN: Final = 4
"""Looks after which an alert that nobody sees any more is over."""


class Watch:
    def __init__(
        self,
        store: AlertStore,
        metrics: Metrics,
        *,
        limits: Limits,
        every: float,
        instance: str,
        away: Away,
        events: Events,
        clock: Callable[[], float],
    ) -> None:
        """`every`: seconds between two looks; `instance`: this daemon's name; `clock` in seconds, monotonic."""
        self._store = store
        self._metrics = metrics
        self._limits = limits
        self._every = every
        self._instance = instance
        self._away = away
        self._events = events
        self._clock = clock
        self._history = History()

    async def run(self, stop: Stop) -> None:
        self._remember()  # what is counted from here on is an increase
        while not await stop.sleep(self._every):
            await self.look()

    async def look(self) -> None:
        """Look once."""
        self._remember()
        await self._away.look(away=self._events.database_away)
        found = [*of_figures(self._history, self._limits, bounds=BOUNDS, instance=self._instance)]
        if not found or self._events.database_away:
            return
        try:
            await self._store.observe(found, lasting=lasting(self._every))
        except DatabaseUnreachable as error:
            self._events.database_lost(error=str(error))

    def _remember(self) -> None:
        self._history.add(snapshot(self._metrics, at=self._clock()))


def lasting(every: float) -> datetime.timedelta:
    """How long what was seen once is taken for true."""
    return datetime.timedelta(seconds=FORGOTTEN * every)


def snapshot(metrics: Metrics, *, at: float) -> Snapshot:
    gauges = {
        "outbox_oldest_due_age_seconds": metrics.outbox_oldest_due_age,
        "channel_paused": metrics.channel_paused,
        "dead_letters": metrics.dead_letters,
        "conversations_stuck": metrics.conversations_stuck,
        "webhook_spool_bytes": metrics.webhook_spool_bytes,
        "circuit_state": metrics.circuit_state,
        "listener_connected": metrics.listener_connected,
        "event_loop_lag_seconds": metrics.event_loop_lag,
        "oldest_snapshot_seconds": metrics.oldest_snapshot,
    }
    counters = {
        "outbox_sends_total": metrics.outbox_sends,
        "outbox_unconfirmed_total": metrics.outbox_unconfirmed,
        "status_updates_total": metrics.status_updates,
        "webhook_requests_total": metrics.webhook_requests,
    }
    values: dict[Series, float] = {}
    for name, gauge in gauges.items():
        values |= {(name, *labels): child.value for labels, child in gauge.children()}
    for name, counter in counters.items():
        values |= {(name, *labels): child.value for labels, child in counter.children()}
    return Snapshot(at, values, metrics.webhook_request_duration.labels().counts())
