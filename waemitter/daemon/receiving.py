"""The way in: webhooks are journalled, or spooled, and worked off."""

from __future__ import annotations

import time
from datetime import timedelta

from waemitter.daemon.media import InboundMedia
from waemitter.daemon.shared import INBOX, OUTBOX, Shared, jitter
from waemitter.inbox.failures import Failures
from waemitter.inbox.gathering.gatherer import Gatherer
from waemitter.inbox.journal.drainer import Drainer
from waemitter.inbox.journal.handover import LocalHandover
from waemitter.inbox.journal.spool import Spool
from waemitter.inbox.journal.store import JournalStore
from waemitter.inbox.journal.writer import Journal
from waemitter.inbox.presence import Presence
from waemitter.inbox.services import InboxLoops, inbox_services
from waemitter.inbox.splitter import LEASE
from waemitter.inbox.store import InboxStore
from waemitter.outbox.channels.store import ChannelStore
from waemitter.outbox.letters.store import LetterStore
from waemitter.outbox.store import OutboxStore
from waemitter.runtime.supervise import Service
from waemitter.settings import Settings


class Inbox:
    """`journal` is run by the web server's side, which it outlives by the last commit; `redo`: see Splitter.redo."""

    def __init__(self, shared: Shared, gatherer: Gatherer, media: InboundMedia | None) -> None:
        """`gatherer`: where what customers write goes on; `media`: who fetches their files."""
        self._shared = shared
        self._gatherer = gatherer
        first_retry = shared.settings.dlq.retry_delays[0]
        self._store = InboxStore(shared.pool, first_retry=timedelta(seconds=first_retry))
        self._journalled = JournalStore(shared.pool)
        self._spool = _spool(shared.settings)
        self._media = media
        self._presence = Presence(
            self._store,
            database_lost=lambda error: shared.events.database_lost(error=error),
            clock=time.monotonic,
        )
        self._handover = LocalHandover(lease=LEASE, clock=time.monotonic)
        self.journal = Journal(
            self._journalled,
            written=self._written,
            spool=self._spool,
            spooling=shared.events.spool_begun,
            failed=self._presence.failed,
            handover=self._handover,
        )
        self._loops = self._splitting()
        self.redo = self._loops.redo

    @property
    def spools(self) -> bool:
        """Webhooks are taken while the database is away."""
        return self._spool is not None

    async def open_spool(self) -> None:
        """Raises UsageError when nothing can be kept there."""
        if self._spool is not None:
            await self._spool.open()

    async def prepare(self) -> None:
        if self._media is not None:
            self._media.prepare()
        await self._presence.begin()

    def services(self) -> dict[str, Service]:
        media = self._media.services() if self._media is not None else {}
        return {**self._draining(), "presence": self._presence.run, **self._loops.services, **media}

    def _written(self) -> None:
        self._shared.doorbell.ring(INBOX)

    def _draining(self) -> dict[str, Service]:
        if self._spool is None:
            return {}
        drainer = Drainer(
            self._spool, self._journalled, written=self._written, events=self._shared.events
        )
        return {"drainer": drainer.run}

    def _splitting(self) -> InboxLoops:
        shared = self._shared
        failures = Failures(
            LetterStore(shared.pool),
            ChannelStore(shared.pool),
            events=shared.events,
            patience=shared.settings.outbox.patience,
            jitter=jitter,
            requeued=lambda: shared.doorbell.ring(OUTBOX),
        )
        return inbox_services(
            self._store,
            OutboxStore(shared.pool),
            failures,
            rules=shared.settings.field_rules,
            gatherer=self._gatherer,
            events=shared.events,
            bell=shared.doorbell.bell(INBOX),
            lanes_freed=lambda: shared.doorbell.ring(OUTBOX),
            sweep_interval=shared.settings.outbox.sweep_interval,
            media=self._media.wishes if self._media is not None else None,
            handover=self._handover,
            jitter=jitter,
        )


def _spool(settings: Settings) -> Spool | None:
    inbox = settings.inbox
    if inbox.spool_dir is None:
        return None
    return Spool(inbox.spool_dir, most_bytes=inbox.spool_max_bytes)
