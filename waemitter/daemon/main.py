"""`run_daemon`: open, prepare, supervise, close."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import aiohttp
from prometheus_client import CollectorRegistry

from waemitter.daemon.event_stream import EventStream
from waemitter.daemon.jobs import Jobs
from waemitter.daemon.media import inbound_media, shelf_of
from waemitter.daemon.preparation import Preparation
from waemitter.daemon.receiving import Inbox
from waemitter.daemon.sending import Senders
from waemitter.daemon.serving import Receiver
from waemitter.daemon.shared import BUFFERS, DASHBOARD, EVENTS, INBOX, JOBS, OUTBOX, Shared, secret
from waemitter.daemon.turning import Turns
from waemitter.db import schema
from waemitter.db.at_hand import at_hand
from waemitter.db.pool import Pool, connect_listener, open_pool
from waemitter.db.snapshots import SnapshotWatch
from waemitter.errors import DatabaseUnreachable, WaemitterError
from waemitter.inbox.gathering.gatherer import Gatherer
from waemitter.inbox.media.fetcher import AT_ONCE
from waemitter.observe import logging
from waemitter.observe.events import Events
from waemitter.observe.metrics import Metrics
from waemitter.runtime.circuits import Circuits
from waemitter.runtime.doorbell import Doorbell
from waemitter.runtime.gears import GEARS
from waemitter.runtime.lag import watch_lag
from waemitter.runtime.service_manager import ServiceManager
from waemitter.runtime.supervise import Service, Stop, causes_of, place_of, supervise
from waemitter.settings import Settings
from waemitter.turns.turn import Handler
from waemitter.whatsapp.client import open_session

if TYPE_CHECKING:
    from waemitter.daemon.chatwoot import Desk

DRAINED: Final = 0
CRASHED: Final = 1
GRACE_RAN_OUT: Final = 3


async def run_daemon(
    settings: Settings, *, apply_schema: bool = False, stop: Stop | None = None
) -> int:
    """Run until told to stop; returns the exit code.

    Raises DatabaseUnreachable, SchemaNotSupported or UsageError when it cannot start at all.
    """
    started = time.monotonic()
    logger = logging.configure(level=settings.logging.level, format=settings.logging.format)
    events = Events(metrics := Metrics(CollectorRegistry()), logger)
    stop = stop or Stop(grace=settings.grace)
    dsn = secret(settings.database.url)
    with stop.on_signals():
        async with (
            open_pool(dsn, size=settings.database.pool_size, at_once=False) as pool,
            at_hand(pool) as kept,
            open_session(connections=settings.outbox.concurrency + AT_ONCE) as session,
        ):
            circuits = Circuits(observer=events, clock=time.monotonic)
            doorbell = _doorbell(settings, events)
            async with _agents(
                settings, pool=pool, session=session, circuits=circuits, events=events
            ) as agents:
                shared = Shared(
                    settings, events, metrics, pool, kept, session, doorbell, stop, circuits, agents
                )
                return await _Daemon(shared, started, apply_schema=apply_schema).run()


@asynccontextmanager
async def _agents(
    settings: Settings,
    *,
    pool: Pool,
    session: aiohttp.ClientSession,
    circuits: Circuits,
    events: Events,
) -> AsyncIterator[Mapping[str, Handler]]:
    if not settings.agents:
        yield {}
        return
    from waemitter.daemon.agents import agent_handlers  # noqa: PLC0415 a tenth of a start is spared

    async with agent_handlers(
        settings.agents,
        pool=pool,
        session=session,
        circuits=circuits,
        observer=events,
        shelf=shelf_of(settings) if settings.media.kept else None,
    ) as agents:
        yield agents


def _doorbell(settings: Settings, events: Events) -> Doorbell:
    listen = settings.database.listen_url or settings.database.url
    return Doorbell(
        lambda: connect_listener(secret(listen), application_name=schema.LISTENER),
        channels=(OUTBOX, INBOX, BUFFERS, JOBS, DASHBOARD, EVENTS, GEARS),
        observer=events,
    )


def _desk(shared: Shared, gatherer: Gatherer) -> Desk | None:
    if not shared.settings.desks:
        return None
    from waemitter.daemon.chatwoot import Desk  # noqa: PLC0415 for those who have a Chatwoot

    return Desk(shared, gatherer)


class _Daemon:
    def __init__(self, shared: Shared, started: float, *, apply_schema: bool) -> None:
        self._manager = ServiceManager.from_environment(os.environ)
        self._shared = shared
        self._senders = Senders(shared)
        media = inbound_media(shared)
        self._turns = Turns(shared, files=None if media is None else media.files)
        self._inbox = Inbox(shared, self._turns.gatherer, media)
        self._desk = _desk(shared, self._turns.gatherer)
        self._jobs = Jobs(shared, self._inbox, self._turns, media, self._desk)
        self._event_stream = EventStream(shared)
        self._receiver = Receiver(
            shared,
            self._inbox.journal,
            drained=self._senders.drained,
            ready=self._manager.ready,
            started=started,
        )
        self._preparation = Preparation(
            shared,
            [
                self._senders.prepare,
                self._inbox.prepare,
                self._jobs.prepare,
                self._turns.prepare,
                self._event_stream.prepare,
            ],
            apply_schema=apply_schema,
            done=self._begin,
            abandoned=self._senders.drained.set,
        )

    async def run(self) -> int:
        shared, events = self._shared, self._shared.events
        if not await self._prepared():
            return DRAINED
        try:
            drained = await supervise(self._services(), shared.stop)
        except BaseExceptionGroup as group:
            causes = causes_of(group)
            if len(causes) == 1 and isinstance(causes[0], WaemitterError):
                raise causes[0] from None  # it says what to do, and has its exit code
            for error in causes:
                words = f"{type(error).__name__}: {error}"
                events.daemon_crashed(error=words, where=place_of(error))
            return CRASHED
        if not drained:
            events.grace_ran_out()
            return GRACE_RAN_OUT
        events.daemon_drained(took=time.monotonic() - self._receiver.asked_to_stop_at)
        return DRAINED

    async def _prepared(self) -> bool:
        """False: told to stop while that took its time.

        With a spool a database that is away is waited for later. Raises SchemaNotSupported, UsageError or DatabaseUnreachable.
        """
        await self._inbox.open_spool()
        try:
            return await self._preparation.attempt()
        except DatabaseUnreachable as error:
            if not self._inbox.spools:
                raise
            self._inbox.journal.held = True
            self._shared.events.database_lost(error=str(error))
            return True

    def _begin(self) -> None:
        self._inbox.journal.held = False

    def _services(self) -> dict[str, Service]:
        always: dict[str, Service] = {
            "receiver": self._receiver.run,
            "pulse": self._receiver.pulse.run,
            "lag": lambda stop: watch_lag(stop, self._shared.events),
            "service manager": lambda stop: self._manager.run(
                stop, observer=self._shared.events, status=self._status
            ),
        }
        working: dict[str, Service] = {
            "doorbell": self._shared.doorbell.run,
            "snapshots": SnapshotWatch(
                self._shared.pool, observer=self._shared.events, clock=time.monotonic
            ).run,
            **self._senders.services(),
            **self._inbox.services(),
            **({} if self._desk is None else self._desk.services()),
            **self._jobs.services(),
            **self._turns.services(),
            **self._event_stream.services(),
        }
        if self._preparation.succeeded:
            return {**working, **always}
        return {**self._preparation.before(working), **always}

    def _status(self) -> str:
        """One line for `systemctl status`."""
        shared = self._shared
        rows = {
            status: sum(
                shared.metrics.outbox_messages.labels(channel, status).value
                for channel in shared.settings.channel_names
            )
            for status in ("queued", "sending")
        }
        database = "Postgres does not answer" if shared.events.database_away else "Postgres answers"
        bell = "listening" if shared.doorbell.connected else "not listening"
        return f"{rows['queued']:.0f} queued, {rows['sending']:.0f} in flight; {database}; {bell}"
