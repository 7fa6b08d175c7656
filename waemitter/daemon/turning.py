"""From a customer's message to the replies: windows, routes, and the worker."""

from __future__ import annotations

import time
from typing import Final

from waemitter.daemon.answering import Answerers
from waemitter.daemon.sending import graph_client
from waemitter.daemon.shared import BUFFERS, Shared, jitter
from waemitter.inbox.gathering.gatherer import Gatherer
from waemitter.inbox.optouts import OptOutWords
from waemitter.runtime.due_loop import DueLoop, Fixed
from waemitter.runtime.supervise import Service
from waemitter.turns.courtesy import Typing
from waemitter.turns.policy import Files, Policy
from waemitter.turns.routing import RoutedWindows
from waemitter.turns.store import TurnStore
from waemitter.turns.worker import Worker

BATCH: Final = 32
"""Turns in one claim."""


class Turns:
    """`gatherer` is the inbox's: it fills the windows. `worker` also redoes what became a dead letter."""

    def __init__(self, shared: Shared, *, files: Files | None = None) -> None:
        """`files`: who knows where the files of messages are."""
        self._shared = shared
        settings = shared.settings
        self._answerers = Answerers(shared)
        router = self._answerers.routes()
        rules = settings.field_rules
        words = OptOutWords(
            rules.languages, stop_words=rules.stop_words, start_words=rules.start_words
        )
        self.gatherer = Gatherer(
            RoutedWindows(router, settings.inbox.window),
            events=shared.events,
            rate=settings.turns.contact_rate,
            session_ttl=settings.sessions.ttl,
            enhanced=settings.turns.flag,
            fields=router.fields,
            command=lambda message: words.hear(message) is not None,
        )
        self.worker = Worker(
            TurnStore(shared.pool),
            router,
            courtesies={
                channel.name: Typing(graph_client(shared, channel), events=shared.events)
                for channel in settings.channels
                if settings.outbox.send_enabled
            },
            events=shared.events,
            policy=Policy(
                lease=settings.inbox.lock_lease,
                timeout=settings.turns.timeout,
                max_attempts=settings.turns.max_attempts,
                letter_delay=next(iter(settings.dlq.retry_delays), 120.0),
                session_ttl=settings.sessions.ttl,
                takeover=settings.inbox.takeover,
                enhanced=settings.turns.flag,
                desks=bool(settings.desks),
                default_desk=settings.chatwoot.desk,
                transcript=settings.chatwoot.transcript,
            ),
            clock=time.monotonic,
            jitter=jitter,
            files=files,
        )

    async def prepare(self) -> None:
        """Raises UsageError, or DatabaseUnreachable."""
        await self._answerers.prepare()

    def services(self) -> dict[str, Service]:
        shared = self._shared
        concurrency = shared.settings.turns.concurrency
        loop = DueLoop(
            self.worker,
            shared.doorbell.bell(BUFFERS),
            capacity=Fixed(concurrency),
            batch_size=min(BATCH, concurrency),
            sweep_interval=shared.settings.outbox.sweep_interval,
            jitter=jitter,
            database_lost=lambda error: shared.events.database_lost(error=error),
        )
        return {"turns": loop.run}
