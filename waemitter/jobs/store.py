"""Jobs and their runs in Postgres; functions of schema.sql do what more than one daemon could do at once."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import asyncpg

from waemitter.db.pool import outages
from waemitter.errors import NotFound
from waemitter.jobs.schedule import ScheduleError, parse, until


class Claimed(NamedTuple):
    """A run that begins, or (`run_id` None) none; the columns of CLAIM. `next_due` in seconds.

    `due_at`: when its job was due by its schedule; `clock`: the database's time; `unscheduled`: nobody has worked out when
    some job runs next.
    """

    run_id: int | None
    name: str | None
    schedule: str | None
    time_zone: str | None
    reason: str | None
    due_at: datetime.datetime | None
    clock: datetime.datetime
    next_due: float | None
    unscheduled: bool


class Unscheduled(NamedTuple):
    name: str
    schedule: str
    time_zone: str
    now: datetime.datetime


class JobRow(NamedTuple):
    """A job and its last run; the columns of LIST. `now` is the database's clock."""

    name: str
    schedule: str
    time_zone: str
    enabled: bool
    next_run_at: datetime.datetime | None
    problem: str | None
    running: bool
    last_started_at: datetime.datetime | None
    last_finished_at: datetime.datetime | None
    last_status: str | None
    last_error: str | None
    last_summary: str | None
    now: datetime.datetime

    @property
    def schedule_words(self) -> str:
        """When it runs, in English; or why nobody knows."""
        try:
            return parse(self.schedule, self.time_zone).words
        except ScheduleError as error:
            return str(error)

    @property
    def next_run(self) -> str:
        """When it runs next, in English."""
        return until(self.next_run_at if self.enabled else None, self.now)


class Run(NamedTuple):
    """The columns of RUN; `summary` is JSON text."""

    id: int
    job_name: str
    status: str
    summary: str | None
    error: str | None


class JobStore:
    def __init__(self, pool: asyncpg.Pool[asyncpg.Record]) -> None:
        self._pool = pool

    ENSURE: Final = """
        insert into waemitter.jobs as j (name, schedule, default_schedule)
        select name, schedule, schedule from unnest($1::text[], $2::text[]) as given (name, schedule) order by name
        on conflict (name) do update set default_schedule = excluded.default_schedule,
          schedule = case when j.default_schedule is null then j.schedule else excluded.schedule end
        where j.default_schedule is distinct from excluded.default_schedule
    """

    async def ensure(self, schedules: dict[str, str]) -> None:
        """Make the rows that are not there. One whose default is another than before follows it; one made by hand stands."""
        with outages():
            await self._pool.execute(self.ENSURE, list(schedules), list(schedules.values()))

    UNSCHEDULED: Final = """
        select name, schedule, time_zone, clock_timestamp() as now from waemitter.jobs
        where name = any ($1) and next_run_at is null and problem is null
    """

    async def unscheduled(self, names: Sequence[str]) -> list[Unscheduled]:
        """Jobs whose next run nobody has worked out."""
        with outages():
            records = await self._pool.fetch(self.UNSCHEDULED, names)
        return [Unscheduled(*record) for record in records]

    SCHEDULE: Final = """
        update waemitter.jobs set next_run_at = $4, problem = $5
        where name = $1 and schedule = $2 and time_zone = $3 and next_run_at is null
    """

    async def schedule(
        self, job: Unscheduled, *, at: datetime.datetime | None, problem: str | None
    ) -> None:
        with outages():
            await self._pool.execute(
                self.SCHEDULE, job.name, job.schedule, job.time_zone, at, problem
            )

    CLAIM: Final = """
        select run_id, name, schedule, time_zone, reason, due_at, clock, next_due, unscheduled
        from waemitter.claim_job(names => $1, lease => $2)
    """

    async def claim(self, names: Sequence[str], *, lease: datetime.timedelta) -> Claimed:
        with outages():
            record = await self._pool.fetchrow(self.CLAIM, names, lease)
        assert record is not None  # noqa: S101 it always returns a row
        return Claimed(*record)

    RENEW: Final = "select waemitter.renew_job(run_id => $1, lease => $2)"

    async def renew(self, run_id: int, *, lease: datetime.timedelta) -> bool:
        with outages():
            renewed: bool = await self._pool.fetchval(self.RENEW, run_id, lease)
        return renewed

    FINISH: Final = """
        select waemitter.finish_job(run_id => $1, schedule => $2, time_zone => $3, due_at => $4, next_run_at => $5, summary => $6,
                                    error => $7)
    """

    async def finish(
        self,
        claimed: Claimed,
        *,
        next_run_at: datetime.datetime | None,
        summary: str | None,
        error: str | None,
    ) -> bool:
        """`summary`: JSON text. False: the run is somebody else's now."""
        with outages():
            finished: bool = await self._pool.fetchval(
                self.FINISH,
                claimed.run_id,
                claimed.schedule,
                claimed.time_zone,
                claimed.due_at,
                next_run_at,
                summary,
                error,
            )
        return finished

    LIST: Final = """
        select j.name, j.schedule, j.time_zone, j.enabled, j.next_run_at, j.problem,
               coalesce(j.running_until > clock_timestamp(), false) as running, r.started_at as last_started_at,
               r.finished_at as last_finished_at, r.status as last_status, r.error as last_error,
               r.summary::text as last_summary, clock_timestamp() as now
        from waemitter.jobs j
        left join lateral (select * from waemitter.job_runs r where r.job_name = j.name and r.status <> 'starting'
                           order by r.id desc limit 1) r on true
        order by j.name
    """

    async def list(self) -> list[JobRow]:
        with outages():
            return [JobRow(*record) for record in await self._pool.fetch(self.LIST)]

    REQUEST: Final = "select waemitter.run_job(name => $1)"

    async def request(self, name: str) -> int:
        """Have it run now; returns the run's id. Raises NotFound."""
        with outages():
            try:
                run_id: int = await self._pool.fetchval(self.REQUEST, name)
            except asyncpg.NoDataFoundError:
                raise NotFound(
                    f"there is no job {name}; `waemitter jobs list` names them"
                ) from None
        return run_id

    RUN: Final = """
        select id, job_name, status, summary::text as summary, error from waemitter.job_runs where id = $1
    """

    async def run(self, run_id: int) -> Run | None:
        with outages():
            record = await self._pool.fetchrow(self.RUN, run_id)
        return None if record is None else Run(*record)

    ENABLE: Final = "update waemitter.jobs set enabled = $2 where name = $1 returning id"

    async def enable(self, name: str, *, enabled: bool) -> None:
        """Raises NotFound."""
        with outages():
            if await self._pool.fetchval(self.ENABLE, name, enabled) is None:
                raise NotFound(f"there is no job {name}; `waemitter jobs list` names them")

    SUCCEEDED: Final = """
        select j.name, extract(epoch from r.at)::float8 as at from waemitter.jobs j
        cross join lateral (select r.finished_at as at from waemitter.job_runs r
                            where r.job_name = j.name and r.status = 'succeeded' order by r.id desc limit 1) r
        where j.name = any ($1)
    """

    async def succeeded(self, names: Sequence[str]) -> dict[str, float]:
        """When each job last succeeded, in seconds since 1970."""
        with outages():
            records: list[Any] = await self._pool.fetch(self.SUCCEEDED, names)
        return {record["name"]: record["at"] for record in records}
