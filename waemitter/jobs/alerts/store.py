"""Alerts in Postgres: one row for each that holds, whoever sees it, and those that are over."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import Final, NamedTuple

import asyncpg
import orjson

from waemitter.db.pool import outages
from waemitter.jobs.alerts.conditions import JobState, Observation
from waemitter.jobs.alerts.rules import RULES


class Changed(NamedTuple):
    """An alert that begins or ends; `labels` is JSON text."""

    name: str
    labels: str
    severity: str
    ended: bool


class Due(NamedTuple):
    """An alert that somebody is to be told of; `labels` is JSON text. The columns of DUE."""

    id: int
    name: str
    labels: str
    severity: str
    summary: str
    action: str
    fired_at: datetime.datetime
    ended_at: datetime.datetime | None


class Firing(NamedTuple):
    """The columns of FIRING; `labels` is JSON text."""

    name: str
    labels: str
    severity: str
    summary: str
    action: str
    fired_at: datetime.datetime
    notified_at: datetime.datetime | None


class AlertStore:
    def __init__(self, pool: asyncpg.Pool[asyncpg.Record]) -> None:
        self._pool = pool

    OBSERVE: Final = """
        select waemitter.observe_alerts(names => $1, labels => $2::text[]::jsonb[], severities => $3, summaries => $4,
          actions => $5, observed => $6, holds => $7, lasting => $8)
    """

    async def observe(
        self, observations: Sequence[Observation], *, lasting: datetime.timedelta
    ) -> None:
        """Say that these hold, for so long unless it is said again."""
        rules = [RULES[each.name] for each in observations]
        with outages():
            await self._pool.execute(
                self.OBSERVE,
                [each.name for each in observations],
                [orjson.dumps(each.labels).decode() for each in observations],
                [rule.severity for rule in rules],
                [each.summary for each in observations],
                [rule.action for rule in rules],
                [each.value for each in observations],
                [datetime.timedelta(seconds=rule.hold) for rule in rules],
                lasting,
            )

    TURN: Final = (
        "select name, labels::text, severity, ended from waemitter.turn_alerts(told => $1)"
    )

    async def turn(self, *, told: bool) -> list[Changed]:
        """Let alerts begin and end; which did. `told`: somebody is told of them."""
        with outages():
            return [Changed(*record) for record in await self._pool.fetch(self.TURN, told)]

    DUE: Final = """
        select id, name, labels::text, severity, summary, action, fired_at, ended_at from waemitter.alerts
        where notify_at <= clock_timestamp() order by name, id limit $1
    """

    async def due(self, limit: int) -> list[Due]:
        with outages():
            return [Due(*record) for record in await self._pool.fetch(self.DUE, limit)]

    TOLD: Final = """
        update waemitter.alerts set notified_at = clock_timestamp(), failures = 0,
          notify_at = case when ended_at is null then clock_timestamp() + $2::interval end
        where id = any ($1)
    """

    async def told(self, ids: Sequence[int], *, again: datetime.timedelta) -> None:
        """Those that go on are told of again after so long."""
        with outages():
            await self._pool.execute(self.TOLD, ids, again)

    UNTOLD: Final = """
        update waemitter.alerts set failures = failures + 1,
          notify_at = clock_timestamp() + least($2::interval * 2 ^ least(failures, 10), interval '15 minutes')
        where id = any ($1)
    """

    async def untold(self, ids: Sequence[int], *, first_delay: datetime.timedelta) -> None:
        """The receiver did not take them: again after so long, twice as long each time, up to 15 minutes."""
        with outages():
            await self._pool.execute(self.UNTOLD, ids, first_delay)

    FIRING: Final = """
        select name, labels::text, severity, summary, action, fired_at, notified_at from waemitter.alerts
        where ended_at is null and fired_at is not null order by severity, fired_at, id
    """

    async def firing(self) -> list[Firing]:
        with outages():
            return [Firing(*record) for record in await self._pool.fetch(self.FIRING)]

    JOBS: Final = """
        select j.name, j.schedule, j.time_zone, coalesce(r.at, j.created_at) as succeeded_at, clock_timestamp() as now
        from waemitter.jobs j
        left join lateral (select r.finished_at as at from waemitter.job_runs r
                           where r.job_name = j.name and r.status = 'succeeded' order by r.id desc limit 1) r on true
        where j.enabled and j.name = any ($1) order by j.name
    """

    async def jobs(self, names: Sequence[str]) -> list[JobState]:
        """When each of these last succeeded, of those that are enabled."""
        with outages():
            return [JobState(*record) for record in await self._pool.fetch(self.JOBS, names)]

    LOW: Final = "select name from waemitter.channels where quality in ('RED', 'LOW') order by name"

    async def low_quality(self) -> list[str]:
        """The channels that Meta rates so."""
        with outages():
            return [record["name"] for record in await self._pool.fetch(self.LOW)]
