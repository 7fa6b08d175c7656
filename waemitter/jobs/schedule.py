"""When a job runs: by an interval (`10s`, `5m`, `1h`, `30 seconds`) or by cron syntax in a time zone. Pure.

Whoever was away a while catches up once: the next run lies always after `now`.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta, tzinfo
from typing import Final, Protocol
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

_INTERVAL: Final = re.compile(r"(\d{1,9}) ?(s|m|h|d|seconds?|minutes?|hours?|days?)")
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_UNITS: Final = ((86_400, "day"), (3600, "hour"), (60, "minute"), (1, "second"))


class ScheduleError(ValueError):
    """A schedule or a time zone that cannot be understood; the message says what would be right."""


class Schedule(Protocol):
    @property
    def words(self) -> str:
        """It in English, as in `every 5 minutes`."""
        ...

    def after(self, now: datetime, *, due: datetime | None) -> datetime:
        """The next run after `now`; `due` is when the last one was due, and keeps intervals on their grid."""
        ...


@dataclass(frozen=True, slots=True)
class Every:
    """An interval."""

    interval: timedelta

    @property
    def words(self) -> str:
        number, _, unit = (words := span(self.interval)).partition(" ")
        return f"every {unit if number == '1' and ' ' not in unit else words}"

    def after(self, now: datetime, *, due: datetime | None) -> datetime:
        if due is None or due > now:
            return now + self.interval
        missed = math.floor((now - due) / self.interval)
        return due + (missed + 1) * self.interval


@dataclass(frozen=True, slots=True)
class Cron:
    """Cron syntax of five fields (six: seconds first), by a zone's clock, as Debian's cron means it."""

    expression: str
    zone: tzinfo
    zone_name: str

    @property
    def words(self) -> str:
        explained = CronSim(self.expression, datetime(2000, 1, 1, tzinfo=UTC)).explain()
        return f"{explained[:1].lower()}{explained[1:]} ({self.zone_name})"

    def after(self, now: datetime, *, due: datetime | None) -> datetime:
        del due
        return next(CronSim(self.expression, now.astimezone(self.zone))).astimezone(UTC)


def parse(schedule: str, time_zone: str) -> Schedule:
    """Raises ScheduleError."""
    if found := _INTERVAL.fullmatch(schedule.strip()):
        seconds = int(found[1]) * _SECONDS[found[2][0]]
        if not seconds:
            raise ScheduleError(f"the interval {schedule!r} is nothing: write 1s or more")
        return Every(timedelta(seconds=seconds))
    try:
        zone = UTC if time_zone == "UTC" else ZoneInfo(time_zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ScheduleError(
            f"there is no time zone {time_zone!r}: write one as in Europe/Berlin"
        ) from None
    cron = Cron(schedule, zone, time_zone)
    try:
        next(CronSim(schedule, datetime(2000, 1, 1, tzinfo=UTC)))
    except (CronSimError, StopIteration) as error:
        raise ScheduleError(
            f"{schedule!r} is no schedule ({str(error) or 'it never comes'}): write an interval (10s, 5m, 1h) or "
            "cron syntax (0 2 * * *)"
        ) from None
    return cron


def interval(seconds: float) -> str:
    """The schedule that says so many seconds, at least one."""
    whole = max(1, round(seconds))
    for unit, letter in ((86_400, "d"), (3600, "h"), (60, "m")):
        if whole % unit == 0:
            return f"{whole // unit}{letter}"
    return f"{whole}s"


def daily(at: time) -> str:
    """The schedule that says every day at that time."""
    return f"{f'{at.second} ' if at.second else ''}{at.minute} {at.hour} * * *"


def span(duration: timedelta) -> str:
    """A duration in words, in its two largest units: `1 hour 5 minutes`."""
    left = max(0, round(duration.total_seconds()))
    words: list[str] = []
    for seconds, unit in _UNITS:
        count, left = divmod(left, seconds)
        if count:
            words.append(f"{count} {unit}{'s' if count > 1 else ''}")
    return " ".join(words[:2]) or "no time"


def until(moment: datetime | None, now: datetime) -> str:
    """When something comes, in words: `in 4 minutes`, `now`, `never`."""
    if moment is None:
        return "never"
    return f"in {span(moment - now)}" if moment - now >= timedelta(seconds=1) else "now"
