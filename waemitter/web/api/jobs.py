"""`/api/jobs…`: what runs on the clock, and run it now."""

from __future__ import annotations

import datetime
from collections.abc import Awaitable, Callable, Sequence
from http import HTTPStatus
from typing import Any, Final, Protocol

import orjson
from pydantic import Field, RootModel

from waemitter.errors import NotFound
from waemitter.web.api.model import Answered, Nothing, Parameters
from waemitter.web.api.operation import Answer, Call, Operation
from waemitter.web.problems import Problem

WITHIN: Final = 25.0
"""Seconds that a caller waits for the end of a run; then it goes on without him."""

SHORTCUTS: Final = ("dlq-processor", "session-cleanup", "buffer-processor")
"""Jobs with a path of their own, as older crontabs know them."""


class JobFacts(Protocol):
    """A job and its last run; `next_run` and `schedule_words` are in English."""

    @property
    def name(self) -> str: ...
    @property
    def schedule(self) -> str: ...
    @property
    def schedule_words(self) -> str: ...
    @property
    def time_zone(self) -> str: ...
    @property
    def enabled(self) -> bool: ...
    @property
    def running(self) -> bool: ...
    @property
    def next_run_at(self) -> datetime.datetime | None: ...
    @property
    def next_run(self) -> str: ...
    @property
    def last_started_at(self) -> datetime.datetime | None: ...
    @property
    def last_finished_at(self) -> datetime.datetime | None: ...
    @property
    def last_status(self) -> str | None: ...
    @property
    def last_summary(self) -> str | None: ...


class RunFacts(Protocol):
    @property
    def id(self) -> int: ...
    @property
    def status(self) -> str: ...
    @property
    def summary(self) -> str | None: ...


class Desk(Protocol):
    """Who knows the jobs."""

    async def list(self) -> Sequence[JobFacts]: ...

    async def run(self, name: str, *, within: float) -> RunFacts:
        """Raises NotFound; what is not over `within` seconds is returned as it is by then."""
        ...


class ByName(Parameters):
    name: str = Field(min_length=1, max_length=63, pattern="^[a-z0-9][a-z0-9-]*$")


class JobDocument(Answered):
    name: str
    schedule: str
    schedule_words: str = Field(examples=["every 5 minutes"])
    time_zone: str
    enabled: bool
    running: bool
    next_run_at: datetime.datetime | None
    next_run: str = Field(examples=["in 4 minutes"])
    last_started_at: datetime.datetime | None
    last_finished_at: datetime.datetime | None
    last_status: str | None
    last_summary: dict[str, Any] | None


class JobList(Answered):
    jobs: list[JobDocument]


class JobSummary(RootModel[dict[str, Any]]):
    """What the run did; `success`, `durationMs`, and what the job counts."""


class StillRunning(Answered):
    """The run is not over yet; its row in waemitter.job_runs will tell."""

    success: bool
    run_id: int
    status: str


class Jobs:
    def __init__(self, *, desk: Desk, within: float = WITHIN) -> None:
        """`within`: seconds that a caller waits."""
        self._desk = desk
        self._within = within

    def operations(self) -> Sequence[Operation[Any, Any]]:
        return (
            Operation(
                name="listJobs",
                method="GET",
                path="/api/jobs",
                summary="What runs on the clock: when, and how it went last.",
                scope="jobs",
                params=Nothing,
                body=Nothing,
                handle=self.list,
                answers={HTTPStatus.OK: JobList},
            ),
            self._running("runJob", "/api/jobs/{name}/run", ByName, self.run),
            *(
                self._running(f"run{_title(name)}", f"/{name}", Nothing, self._shortcut(name))
                for name in SHORTCUTS
            ),
        )

    @staticmethod
    def _running(
        name: str,
        path: str,
        params: type[Parameters],
        handle: Callable[[Call[Any, Nothing]], Awaitable[Answer]],
    ) -> Operation[Any, Any]:
        return Operation(
            name=name,
            method="POST",
            path=path,
            summary="Run a job now, be it enabled or not, and answer what it did.",
            scope="jobs",
            params=params,
            body=Nothing,
            handle=handle,
            answers={HTTPStatus.OK: JobSummary, HTTPStatus.ACCEPTED: StillRunning},
            refusals=(HTTPStatus.NOT_FOUND,),
            audited=True,
        )

    async def list(self, _: Call[Nothing, Nothing]) -> Answer:
        jobs = [
            JobDocument(
                name=job.name,
                schedule=job.schedule,
                schedule_words=job.schedule_words,
                time_zone=job.time_zone,
                enabled=job.enabled,
                running=job.running,
                next_run_at=job.next_run_at,
                next_run=job.next_run,
                last_started_at=job.last_started_at,
                last_finished_at=job.last_finished_at,
                last_status=job.last_status,
                last_summary=None if job.last_summary is None else orjson.loads(job.last_summary),
            )
            for job in await self._desk.list()
        ]
        return Answer(document=JobList(jobs=jobs))

    async def run(self, call: Call[ByName, Nothing]) -> Answer:
        return await self._run(call.params.name)

    def _shortcut(self, name: str) -> Callable[[Call[Nothing, Nothing]], Awaitable[Answer]]:
        async def run(_: Call[Nothing, Nothing]) -> Answer:
            return await self._run(name)

        return run

    async def _run(self, name: str) -> Answer:
        try:
            run = await self._desk.run(name, within=self._within)
        except NotFound:
            raise Problem(HTTPStatus.NOT_FOUND, f"There is no job {name}.") from None
        if run.status == "failed":
            raise Problem(
                HTTPStatus.SERVICE_UNAVAILABLE,
                f"The run {run.id} of {name} failed; its row in waemitter.job_runs says why.",
            )
        if run.status == "succeeded" and run.summary is not None:
            return Answer(document=JobSummary(orjson.loads(run.summary)))
        running = StillRunning(success=True, run_id=run.id, status=run.status)
        return Answer(document=running, status=HTTPStatus.ACCEPTED)


def _title(name: str) -> str:
    return "".join(part.title() for part in name.split("-"))
