"""Files that customers send: who wishes for them, who fetches them, who tells where they are, who removes them."""

from __future__ import annotations

import tempfile
import time
from datetime import timedelta
from pathlib import Path

from waemitter.daemon.sending import graph_client
from waemitter.daemon.shared import Shared, jitter, secret
from waemitter.errors import UsageError
from waemitter.inbox.media.attachments import Attachments
from waemitter.inbox.media.fetcher import AT_ONCE, Fetcher
from waemitter.inbox.media.retention import MediaRetention
from waemitter.inbox.media.shelf import Directory, Shelf
from waemitter.inbox.media.store import InboundMediaStore
from waemitter.inbox.media.wishes import Wishes
from waemitter.runtime.doorbell import Bell
from waemitter.runtime.due_loop import DueLoop, Fixed
from waemitter.runtime.supervise import Service
from waemitter.settings import Settings


class InboundMedia:
    """`wishes` is the splitter's, `files` the turns', `again` the dead letters'."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        first_retry = next(iter(shared.settings.dlq.retry_delays), 120.0)
        self._store = InboundMediaStore(shared.pool, first_retry=timedelta(seconds=first_retry))
        self._bell = Bell()  # rung by the splitter; what another daemon left is found by the sweep
        self.wishes = Wishes(self._store, wanted=self._bell.ring)
        self._shelf = shelf_of(shared.settings)
        self._directory = self._shelf if isinstance(self._shelf, Directory) else None
        self._staging = self._directory.staging if self._directory else Path(tempfile.gettempdir())
        self.files = Attachments(
            self._store,
            patience=min(shared.settings.media.patience, shared.settings.inbox.lock_lease / 4),
            clock=time.monotonic,
        )
        self._fetcher = self._fetching()
        self.again = self._fetcher.again

    def prepare(self) -> None:
        """Raises UsageError when nothing can be written to the directory."""
        if self._directory is not None:
            self._directory.prepare()

    def services(self) -> dict[str, Service]:
        shared, media = self._shared, self._shared.settings.media
        fetching = DueLoop(
            self._fetcher,
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

    def _fetching(self) -> Fetcher:
        shared = self._shared
        return Fetcher(
            self._store,
            self._shelf,
            {
                channel.name: graph_client(shared, channel)
                for channel in shared.settings.channels
                if channel.access_token is not None and channel.phone_number_id is not None
            },
            staging=self._staging,
            most_bytes=shared.settings.media.max_bytes,
            events=shared.events,
            jitter=jitter,
            clock=time.monotonic,
        )


def inbound_media(shared: Shared) -> InboundMedia | None:
    """None: there is no place to keep files."""
    return InboundMedia(shared) if shared.settings.media.kept else None


def shelf_of(settings: Settings) -> Shelf:
    """Where files are kept. Raises UsageError when that needs a package that is not installed."""
    if settings.media.directory is not None:
        return Directory(settings.media.directory)
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
