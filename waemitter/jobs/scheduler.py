"""Jobs run when they are due, by whichever daemon comes first, one run of each at a time.

A run is leased, as everything here is: when its daemon vanishes, another one begins it anew. So a job may be cut short
anywhere, and does in batches what takes long.
"""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import Callable, Sequence
from typing import Final

import orjson

from waemitter.errors import DatabaseUnreachable
from waemitter.jobs.job import Job, Summary
from waemitter.jobs.schedule import ScheduleError, parse
from waemitter.jobs.store import Claimed, JobStore
from waemitter.observe.events import Events
from waemitter.runtime.due_loop import Claim

LEASE: Final = datetime.timedelta(seconds=60)
AT_ONCE: Final = 2
"""Jobs that one daemon runs side by side: most of its connections are for messages."""

OFTEN: Final = datetime.timedelta(seconds=60)
"""A job that comes so often looks by itself for what its last run left; to look once more each time would cost more than it."""

CUT_SHORT: Final = "its daemon stopped"


class Scheduler:
    """A DueTable of jobs."""

    def __init__(
        self,
        store: JobStore,
        jobs: Sequence[Job],
        *,
        events: Events,
        stopping: asyncio.Event,
        ring: Callable[[], None],
        clock: Callable[[], float],
    ) -> None:
        """`stopping`: runs are cut short when it is set; `ring` wakes the loop; `clock` in seconds, monotonic."""
        self._store = store
        self._jobs = {job.name: job for job in jobs}
        self._names = [*self._jobs]
        self._events = events
        self._stopping = stopping
        self._ring = ring
        self._clock = clock

    async def prepare(self) -> None:
        """Make the jobs' rows. Raises DatabaseUnreachable."""
        await self._store.ensure({job.name: job.schedule for job in self._jobs.values()})
        self._events.jobs_known(
            succeeded=await self._store.succeeded(self._names), jobs=self._names
        )

    async def claim(self, limit: int) -> Claim[Claimed]:
        del limit  # one at a time
        claimed = await self._store.claim(self._names, lease=LEASE)
        if claimed.unscheduled:
            await self._schedule()
            if claimed.run_id is None:
                claimed = await self._store.claim(self._names, lease=LEASE)
        self._events.database_back()
        if claimed.run_id is None:
            return Claim((), next_due=claimed.next_due)
        again = _again(claimed, claimed.clock)
        dues = [
            claimed.next_due,
            None if again is None else (again - claimed.clock).total_seconds(),
        ]
        return Claim([claimed], next_due=min((due for due in dues if due is not None), default=0.0))

    async def release(self, rows: Sequence[Claimed]) -> None:
        """A run that was not started is begun anew when its lease ends; a worker starts each at once."""

    async def work(self, row: Claimed) -> None:
        try:
            await self._run(row)
        except DatabaseUnreachable as error:
            self._events.database_lost(error=str(error))  # the lease ends, and the run begins anew

    async def _schedule(self) -> None:
        """Work out when new jobs, and those whose schedule was changed, run."""
        for job in await self._store.unscheduled(self._names):
            try:
                at = parse(job.schedule, job.time_zone).after(job.now, due=None)
            except ScheduleError as error:
                self._events.job_schedule_invalid(job=job.name, reason=str(error))
                await self._store.schedule(job, at=None, problem=str(error))
            else:
                await self._store.schedule(job, at=at, problem=None)

    async def _run(self, claimed: Claimed) -> None:
        assert claimed.run_id is not None  # noqa: S101 only a run that began is worked on
        assert claimed.name is not None  # noqa: S101 as above
        assert claimed.reason is not None  # noqa: S101 as above
        started = self._clock()
        self._events.job_started(job=claimed.name, run_id=claimed.run_id, reason=claimed.reason)
        summary: Summary | None = None
        error: str | None = None
        try:
            summary = await self._leased(claimed.run_id, self._jobs[claimed.name])
        except DatabaseUnreachable:
            raise
        except Exception as failure:  # noqa: BLE001 whatever a job meets, the others go on
            error = f"{type(failure).__name__}: {failure}"
        cut_short = summary is None and error is None  # so it is due still, for another daemon
        if cut_short:
            error = CUT_SHORT
        took = self._clock() - started
        now = claimed.clock + datetime.timedelta(seconds=took)
        again = _again(claimed, now)
        mine = await self._store.finish(
            claimed,
            next_run_at=None if cut_short else again,
            summary=None if summary is None else orjson.dumps(summary).decode(),
            error=error,
        )
        if again is None or again - now > OFTEN or again != _again(claimed, claimed.clock):
            self._ring()  # another was asked for meanwhile, or it is due at another time than the loop was told
        if cut_short or not mine:
            self._events.job_cut_short(job=claimed.name, run_id=claimed.run_id)
        elif error is not None:
            kind, _, _ = error.partition(":")
            self._events.job_failed(job=claimed.name, run_id=claimed.run_id, error=kind)
        else:
            self._events.job_succeeded(
                job=claimed.name, run_id=claimed.run_id, took=took, at=now.timestamp()
            )

    async def _leased(self, run_id: int, job: Job) -> Summary | None:
        """Run it, renewing its lease. None: the daemon stops, or the run is somebody else's."""
        work = asyncio.ensure_future(job.run())
        stopped = asyncio.ensure_future(self._stopping.wait())
        renewing = asyncio.ensure_future(self._renew(run_id))
        try:
            await asyncio.wait((work, stopped, renewing), return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                return work.result()
            if renewing.done():
                renewing.result()
            return None
        finally:
            for task in (work, stopped, renewing):
                task.cancel()
            await asyncio.gather(work, stopped, renewing, return_exceptions=True)

    async def _renew(self, run_id: int) -> None:
        """Return when the lease is lost. Raises DatabaseUnreachable."""
        while True:
            await asyncio.sleep(LEASE.total_seconds() / 3)
            if not await self._store.renew(run_id, lease=LEASE):
                return


def _again(claimed: Claimed, now: datetime.datetime) -> datetime.datetime | None:
    """When the job of a run that began is due again by its schedule."""
    assert claimed.schedule is not None  # noqa: S101 only a run that began is worked on
    assert claimed.time_zone is not None  # noqa: S101 as above
    if claimed.due_at is None or claimed.due_at > now:
        return claimed.due_at
    try:
        return parse(claimed.schedule, claimed.time_zone).after(now, due=claimed.due_at)
    except ScheduleError:  # changed meanwhile, by hand
        return None
