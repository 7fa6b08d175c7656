"""The job `alerts`: what the database tells, which alerts begin and end, and their way to whoever is to hear of them."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Sequence
from typing import Final

import orjson

from waemitter.jobs.alerts.body import Alert
from waemitter.jobs.alerts.conditions import of_channels, of_jobs
from waemitter.jobs.alerts.receiver import NotTaken, Receiver, by_name
from waemitter.jobs.alerts.store import AlertStore, Due
from waemitter.jobs.alerts.watch import lasting
from waemitter.jobs.job import Summary
from waemitter.observe.events import Events

AT_ONCE: Final = 100
"""Alerts told of in one run; the others are due still."""


class Notifier:
    """An alert is posted when it begins, again after `repeat` while it goes on, and when it is over: at least once each."""

    def __init__(
        self,
        store: AlertStore,
        *,
        jobs: Sequence[str],
        every: float,
        repeat: float,
        receiver: Receiver | None,
        events: Events,
        clock: Callable[[], float],
    ) -> None:
        """`jobs`: those that are to succeed; `every` and `repeat` in seconds. Without a receiver alerts are only kept."""
        self._store = store
        self._jobs = jobs
        self._every = every
        self._repeat = datetime.timedelta(seconds=repeat)
        self._receiver = receiver
        self._events = events
        self._clock = clock

    async def run(self) -> Summary:
        started = self._clock()
        found = [
            *of_jobs(await self._store.jobs(self._jobs)),
            *of_channels(await self._store.low_quality()),
        ]
        if found:
            await self._store.observe(found, lasting=lasting(self._every))
        for changed in await self._store.turn(told=self._receiver is not None):
            labels = orjson.loads(changed.labels)
            if changed.ended:
                self._events.alert_resolved(alert=changed.name, labels=labels)
            else:
                self._events.alert_fired(
                    alert=changed.name, severity=changed.severity, labels=labels
                )
        sent, failed = await self._notify()
        return {
            "success": not failed,
            "firing": len(await self._store.firing()),
            "sent": sent,
            "failed": failed,
            "durationMs": round((self._clock() - started) * 1000),
        }

    async def _notify(self) -> tuple[int, int]:
        """How many alerts the receiver took, and how many it did not; after those, no others are tried in this run."""
        if self._receiver is None:
            return 0, 0
        sent = 0
        due = [(row.id, _alert(row)) for row in await self._store.due(AT_ONCE)]
        for name, group in by_name(due):
            ids = [alert_id for alert_id, _ in group]
            try:
                await self._receiver.post(name, [alert for _, alert in group])
            except NotTaken as error:
                self._events.alert_not_sent(alert=name, reason=str(error))
                delay = datetime.timedelta(seconds=self._every)
                await self._store.untold(ids, first_delay=delay)
                return sent, len(ids)
            sent += len(ids)
            self._events.alerts_sent(count=len(ids))
            await self._store.told(ids, again=self._repeat)
        return sent, 0


def _alert(row: Due) -> Alert:
    return Alert(
        name=row.name,
        labels=orjson.loads(row.labels),
        severity=row.severity,
        summary=row.summary,
        action=row.action,
        began_at=row.fired_at,
        ended_at=row.ended_at,
    )
