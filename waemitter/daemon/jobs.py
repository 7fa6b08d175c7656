"""What runs on the clock: the jobs, and who redoes what failed in which stage."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Final

import orjson

from waemitter.daemon.alerts import Alerts
from waemitter.daemon.media import InboundMedia
from waemitter.daemon.receiving import Inbox
from waemitter.daemon.shared import BUFFERS, JOBS, Shared, jitter
from waemitter.daemon.turning import Turns
from waemitter.errors import UsageError
from waemitter.jobs import job as names
from waemitter.jobs.cleanup.retention import Keep, Retention
from waemitter.jobs.cleanup.sessions import SessionCleanup
from waemitter.jobs.cleanup.store import CleanupStore
from waemitter.jobs.dead_letters.processor import DeadLetters, Redo
from waemitter.jobs.dead_letters.store import DueLetter, DueLetterStore
from waemitter.jobs.job import Job, Summary
from waemitter.jobs.schedule import daily, interval
from waemitter.jobs.scheduler import AT_ONCE, Scheduler
from waemitter.jobs.store import JobStore
from waemitter.runtime.due_loop import DueLoop, Fixed
from waemitter.runtime.supervise import Service

if TYPE_CHECKING:
    from waemitter.daemon.chatwoot import Desk

ANALYTICS_TIME: Final = 600.0
"""Seconds that refresh-analytics may take."""
CHATWOOT: Final = "chatwoot"
TURN_STAGES: Final = ("route", "handler", "commit")


class Jobs:
    def __init__(
        self,
        shared: Shared,
        inbox: Inbox,
        turns: Turns,
        media: InboundMedia | None = None,
        desk: Desk | None = None,
    ) -> None:
        self._shared = shared
        self._inbox = inbox
        self._turns = turns
        self._media = media
        self._desk = desk
        self._cleanup = CleanupStore(shared.pool)
        self._alerts = Alerts(shared)
        self._scheduler = Scheduler(
            JobStore(shared.pool),
            self._jobs(),
            events=shared.events,
            stopping=shared.stop.requested,
            ring=lambda: shared.doorbell.ring(JOBS),
            clock=time.monotonic,
        )

    async def prepare(self) -> None:
        await self._scheduler.prepare()

    def services(self) -> dict[str, Service]:
        shared = self._shared
        loop = DueLoop(
            self._scheduler,
            shared.doorbell.bell(JOBS),
            capacity=Fixed(AT_ONCE),
            batch_size=1,
            sweep_interval=shared.settings.outbox.sweep_interval,
            jitter=jitter,
            database_lost=lambda error: shared.events.database_lost(error=error),
        )
        return {"jobs": loop.run, **self._alerts.services()}

    def _jobs(self) -> tuple[Job, ...]:
        settings = self._shared.settings
        nightly = daily(settings.retention.cleanup_at)
        jobs = (
            Job(names.DLQ_PROCESSOR, interval(settings.dlq.interval), self._letters().run),
            Job(names.BUFFER_PROCESSOR, interval(settings.inbox.sweep_interval), self._buffers),
            Job(names.SESSION_CLEANUP, nightly, self._sessions().run),
            Job(names.CLEANUP_STUCK, "5m", self._stuck),
            Job(names.REFRESH_ANALYTICS, "1h", self._analytics),
            Job(names.RETENTION, nightly, self._retention().run),
            *self._reconciling(),
        )
        notifier = self._alerts.notifier(tuple(job.name for job in jobs))
        return (*jobs, Job(names.ALERTS, interval(settings.alerts.interval), notifier.run))

    def _reconciling(self) -> tuple[Job, ...]:
        desk = self._desk
        return () if desk is None else (Job(names.CHATWOOT_RECONCILER, "5m", desk.reconcile),)

    def _letters(self) -> DeadLetters:
        dlq = self._shared.settings.dlq
        return DeadLetters(
            DueLetterStore(self._shared.pool),
            stages=self._stages(),
            batch_size=dlq.batch_size,
            max_retries=dlq.max_retries,
            delays=dlq.retry_delays,
            events=self._shared.events,
            clock=time.monotonic,
        )

    def _stages(self) -> Mapping[str, Redo]:
        """By the stage in which it failed: who does it again."""

        async def split(letter: DueLetter) -> None:
            if letter.source != CHATWOOT:
                await self._inbox.redo(source=letter.source, payload=letter.payload)
            elif self._desk is not None:
                await self._desk.redo(payload=letter.payload)
            else:
                raise UsageError("no Chatwoot is configured here")

        async def turn(letter: DueLetter) -> None:
            await self._turns.worker.redo(orjson.loads(letter.payload)["turn_id"])

        async def file(letter: DueLetter) -> None:
            if self._media is None:
                raise UsageError(
                    "this daemon has no place for files: set WAEMITTER_MEDIA__DIRECTORY"
                )
            await self._media.again(orjson.loads(letter.payload)["inbound_media_id"])

        return {"split": split, "media": file, **dict.fromkeys(TURN_STAGES, turn)}

    def _retention(self) -> Retention:
        kept = self._shared.settings.retention
        return Retention(
            self._cleanup,
            keep=Keep(
                outbox=timedelta(seconds=kept.outbox),
                inbound=timedelta(seconds=kept.inbound),
                buffers=timedelta(seconds=kept.buffers),
                webhook_logs=timedelta(seconds=kept.webhook_logs),
                dead_letters=timedelta(seconds=kept.dead_letters),
                job_runs=timedelta(seconds=kept.job_runs),
                agents=timedelta(seconds=kept.agents),
                audit=timedelta(seconds=kept.audit),
                events=timedelta(seconds=kept.events),
                webhook_bodies=None
                if kept.webhook_bodies is None
                else timedelta(seconds=kept.webhook_bodies),
            ),
            events=self._shared.events,
            clock=time.monotonic,
        )

    def _sessions(self) -> SessionCleanup:
        settings = self._shared.settings
        return SessionCleanup(
            self._cleanup,
            ttl=timedelta(seconds=settings.sessions.ttl),
            dead_letters=timedelta(seconds=settings.retention.dead_letters),
            events=self._shared.events,
            clock=time.monotonic,
        )

    async def _buffers(self) -> Summary:
        """A sweep: whoever works on windows looks for due ones."""
        started = time.monotonic()
        due = await self._cleanup.due_buffers()
        if due:
            self._shared.doorbell.ring(BUFFERS)
        took = time.monotonic() - started
        return {"success": True, "processed": due, "durationMs": round(took * 1000)}

    async def _stuck(self) -> Summary:
        started = time.monotonic()
        freed = await self._cleanup.free_stuck()
        took = time.monotonic() - started
        return {"success": True, "freed": freed, "durationMs": round(took * 1000)}

    async def _analytics(self) -> Summary:
        started = time.monotonic()
        figures = await self._cleanup.refresh_analytics(within=ANALYTICS_TIME)
        took = time.monotonic() - started
        return {"success": True, "figures": figures, "durationMs": round(took * 1000)}
