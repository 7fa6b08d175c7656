"""That Postgres is away cannot be kept in Postgres: each daemon that sees it tells of it by itself."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import Final

from waemitter.jobs.alerts.body import Alert
from waemitter.jobs.alerts.receiver import NotTaken, Receiver
from waemitter.jobs.alerts.rules import RULES
from waemitter.observe.events import Events

NAME: Final = "WaemitterDatabaseAway"


class Away:
    def __init__(
        self,
        receiver: Receiver | None,
        *,
        instance: str,
        events: Events,
        clock: Callable[[], float],
        wall: Callable[[], datetime.datetime],
    ) -> None:
        """`instance`: this daemon's name; `clock` in seconds, monotonic; `wall`: the time of day, with its zone."""
        self._receiver = receiver
        self._instance = instance
        self._events = events
        self._clock = clock
        self._wall = wall
        self._since: tuple[float, datetime.datetime] | None = None
        self._told = False

    async def look(self, *, away: bool) -> None:
        """Tell of it when it has been so for a minute, and when it is over; what did not arrive, the next time once more."""
        if self._since is None:
            if away:
                self._since = (self._clock(), self._wall())
            return
        since, at = self._since
        if away:
            if not self._told and self._clock() - since >= RULES[NAME].hold:
                self._told = await self._tell(began_at=at, ended_at=None)
        elif not self._told or await self._tell(began_at=at, ended_at=self._wall()):
            self._since, self._told = None, False

    async def _tell(
        self, *, began_at: datetime.datetime, ended_at: datetime.datetime | None
    ) -> bool:
        """Whether it arrived; without a receiver, a line of the log is all there is."""
        labels, rule = {"instance": self._instance}, RULES[NAME]
        if ended_at is None:
            self._events.alert_fired(alert=NAME, severity=rule.severity, labels=labels)
        else:
            self._events.alert_resolved(alert=NAME, labels=labels)
        if self._receiver is None:
            return True
        alert = Alert(
            name=NAME,
            labels=labels,
            severity=rule.severity,
            summary=rule.say(labels, 0),
            action=rule.action,
            began_at=began_at,
            ended_at=ended_at,
        )
        try:
            await self._receiver.post(NAME, [alert])
        except NotTaken as error:
            self._events.alert_not_sent(alert=NAME, reason=str(error))
            return False
        self._events.alerts_sent(count=1)
        return True
