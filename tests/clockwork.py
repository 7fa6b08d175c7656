"""The jobs of a daemon without the daemon, for tests."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import asyncpg

from tests.observing import Observed, observing
from waemitter.jobs.job import Job, Summary
from waemitter.jobs.scheduler import Scheduler
from waemitter.jobs.store import JobStore
from waemitter.runtime.supervise import Stop

Pool = asyncpg.Pool
NAME = "dlq-processor"


@dataclass
class Clockwork:
    """A daemon's jobs, and nothing else of it; each `turn` is one claim and its work."""

    pool: Pool
    store: JobStore
    scheduler: Scheduler
    stop: Stop
    observed: Observed
    rung: asyncio.Event

    async def turn(self) -> bool:
        claim = await self.scheduler.claim(1)
        for row in claim.rows:
            await self.scheduler.work(row)
        return bool(claim.rows)

    async def due(self, name: str = NAME) -> None:
        await self.pool.execute(
            "update waemitter.jobs set next_run_at = now() - interval '1 second' where name = $1",
            name,
        )


@asynccontextmanager
async def clockwork(pool: Pool, jobs: Sequence[Job]) -> AsyncIterator[Clockwork]:
    with observing() as observed:
        stop, rung = Stop(grace=5), asyncio.Event()
        store = JobStore(pool)
        scheduler = Scheduler(
            store,
            jobs,
            events=observed.events,
            stopping=stop.requested,
            ring=rung.set,
            clock=time.monotonic,
        )
        await scheduler.prepare()
        yield Clockwork(pool, store, scheduler, stop, observed, rung)


def counting(runs: list[str], name: str = NAME, schedule: str = "5m") -> Job:
    async def run() -> Summary:
        runs.append(name)
        return {"success": True, "processed": len(runs)}

    return Job(name, schedule, run)


async def runs_of(pool: Pool) -> list[tuple[str, str, str | None]]:
    records = await pool.fetch("select reason, status, error from waemitter.job_runs order by id")
    return [(record["reason"], record["status"], record["error"]) for record in records]
