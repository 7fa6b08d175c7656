"""The way in: webhooks are journalled, or spooled, and worked off."""

from __future__ import annotations

import tempfile
import time
from datetime import timedelta
from pathlib import Path

from waemitter.daemon.sending import graph_client
from waemitter.daemon.shared import INBOX, OUTBOX, Shared, jitter, secret
from waemitter.errors import UsageError
from waemitter.inbox.failures import Failures
from waemitter.inbox.gathering.gatherer import Gatherer
from waemitter.inbox.journal.drainer import Drainer
from waemitter.inbox.journal.spool import Spool
from waemitter.inbox.journal.store import JournalStore
from waemitter.inbox.journal.writer import Journal
from waemitter.inbox.media.fetcher import AT_ONCE, Fetcher
from waemitter.inbox.media.retention import MediaRetention
from waemitter.inbox.media.shelf import Directory, Shelf
from waemitter.inbox.media.store import InboundMediaStore
from waemitter.inbox.media.wishes import Wishes
from waemitter.inbox.presence import Presence
from waemitter.inbox.services import InboxLoops, inbox_services
from waemitter.inbox.store import InboxStore
from waemitter.outbox.channels.store import ChannelStore
from waemitter.outbox.letters.store import LetterStore
from waemitter.outbox.store import OutboxStore
from waemitter.runtime.doorbell import Bell
from waemitter.runtime.due_loop import DueLoop, Fixed
from waemitter.runtime.supervise import Service
from waemitter.settings import Settings


class Inbox:
    """`journal` is run by the web server's side, which it outlives by the last commit; `redo`: see Splitter.redo."""

    def __init__(self, shared: Shared, gatherer: Gatherer) -> None:
        """`gatherer`: where what customers write goes on."""
        self._shared = shared
        self._gatherer = gatherer
        first_retry = shared.settings.dlq.retry_delays[0]
        self._store = InboxStore(shared.pool, first_retry=timedelta(seconds=first_retry))
        self._journalled = JournalStore(shared.pool)
        self._spool = _spool(shared.settings)
        self._media = InboundMedia(shared) if _wants_media(shared.settings) else None
        self._presence = Presence(
            self._store,
            database_lost=lambda error: shared.events.database_lost(error=error),
            clock=time.monotonic,
        )
        self.journal = Journal(
            self._journalled,
            written=self._written,
            spool=self._spool,
            spooling=shared.events.spool_begun,
            failed=self._presence.failed,
        )
        self._loops = self._splitting()
        self.redo = self._loops.redo

    async def prepare(self) -> None:
        if self._spool is not None:
            await self._spool.open()
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
            jitter=jitter,
        )


class InboundMedia:
    """Files that customers send: who wishes for them, who fetches them, who removes them."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._store = InboundMediaStore(shared.pool)
        self._bell = Bell()  # rung by the splitter; what another daemon left is found by the sweep
        self.wishes = Wishes(self._store, wanted=self._bell.ring)
        directory = shared.settings.media.directory
        self._directory = None if directory is None else Directory(directory)
        self._shelf: Shelf = self._directory or _bucket(shared.settings)
        self._staging = self._directory.staging if self._directory else Path(tempfile.gettempdir())

    def prepare(self) -> None:
        """Raises UsageError when nothing can be written to the directory."""
        if self._directory is not None:
            self._directory.prepare()

    def services(self) -> dict[str, Service]:
        shared, media = self._shared, self._shared.settings.media
        fetcher = Fetcher(
            self._store,
            self._shelf,
            {
                channel.name: graph_client(shared, channel)
                for channel in shared.settings.channels
                if channel.access_token is not None and channel.phone_number_id is not None
            },
            staging=self._staging,
            most_bytes=media.max_bytes,
            events=shared.events,
            jitter=jitter,
            clock=time.monotonic,
        )
        fetching = DueLoop(
            fetcher,
            self._bell,
            capacity=Fixed(AT_ONCE),
            batch_size=AT_ONCE,
            sweep_interval=shared.settings.outbox.sweep_interval,
            jitter=jitter,
            database_lost=lambda error: shared.events.database_lost(error=error),
        )
        retention = MediaRetention(
            self._store,
            self._shelf,
            staging=self._staging,
            keep=media.keep,
            events=shared.events,
            jitter=jitter,
        )
        return {"media": fetching.run, "media retention": retention.run}


def _wants_media(settings: Settings) -> bool:
    return settings.media.directory is not None or settings.media.s3_bucket is not None


def _bucket(settings: Settings) -> Shelf:
    try:
        from waemitter.inbox.media.s3 import Bucket  # noqa: PLC0415  an extra, which not everybody installs
    except ImportError as error:
        raise UsageError("media.s3_bucket needs an extra: pip install 'waemitter[s3]'") from error
    media = settings.media
    return Bucket(
        media.s3_bucket or "",
        prefix=media.s3_prefix,
        endpoint=media.s3_endpoint,
        region=media.s3_region,
        access_key_id=secret(media.s3_access_key_id),
        secret_access_key=secret(media.s3_secret_access_key),
    )


def _spool(settings: Settings) -> Spool | None:
    inbox = settings.inbox
    if inbox.spool_dir is None:
        return None
    return Spool(inbox.spool_dir, most_bytes=inbox.spool_max_bytes)
