"""The composition root: settings become resources, resources become services, services are supervised.

    resources   opened in this order, closed in the reverse: pool ▸ HTTP session
    services    doorbell · gears · one sender a channel · probe · reconciler · receiver (web server, journal) · presence ·
                drainer · splitter · parked

A stop runs through them as it should: /health/ready turns 503 at once, the web server drains, loops claim no more, what is in
flight is settled, what was not begun is given back, and only then the pool closes.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Final

import aiohttp
import asyncpg
from prometheus_client import CollectorRegistry

from waemitter import __version__
from waemitter.db import schema
from waemitter.db.pool import connect_listener, open_connection, open_pool, outages
from waemitter.errors import WaemitterError
from waemitter.inbox.failures import Failures
from waemitter.inbox.journal.drainer import Drainer
from waemitter.inbox.journal.spool import Spool
from waemitter.inbox.journal.store import JournalStore
from waemitter.inbox.journal.writer import Journal
from waemitter.inbox.presence import Presence
from waemitter.inbox.services import inbox_services
from waemitter.inbox.store import InboxStore
from waemitter.observe import logging
from waemitter.observe.events import Events
from waemitter.observe.metrics import Metrics
from waemitter.outbox.campaigns.store import CampaignStore
from waemitter.outbox.channels.probe import Probe
from waemitter.outbox.channels.store import ChannelStore
from waemitter.outbox.intake.store import IntakeStore
from waemitter.outbox.letters.store import LetterStore
from waemitter.outbox.media.library import MediaLibrary, Number
from waemitter.outbox.media.store import MediaStore
from waemitter.outbox.permissions.store import PermissionStore
from waemitter.outbox.permissions.window import WindowPolicy
from waemitter.outbox.reconciler import Reconciler
from waemitter.outbox.sender import Sender
from waemitter.outbox.store import OutboxStore
from waemitter.runtime.doorbell import Doorbell
from waemitter.runtime.gears import GEARS, Gears
from waemitter.runtime.lag import watch_lag
from waemitter.runtime.supervise import Service, Stop, causes_of, place_of, supervise
from waemitter.settings import ChannelSettings, Settings
from waemitter.web.api.assembly import outbox_api
from waemitter.web.app import Parts
from waemitter.web.auth import Authenticator
from waemitter.web.health import Component, Health
from waemitter.web.site import Addresses, serve_site
from waemitter.web.store import AuditStore, KeyStore
from waemitter.web.webhooks import WebhookReceiver
from waemitter.whatsapp.client import GraphClient, open_session

OUTBOX: Final = "waemitter_outbox"
INBOX: Final = "waemitter_inbox"

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
    dsn = _secret(settings.database.url)
    if apply_schema:
        async with open_connection(dsn) as connection:
            await schema.apply(connection)
    with stop.on_signals():
        async with (
            open_pool(dsn, size=settings.database.pool_size) as pool,
            open_session(connections=settings.outbox.concurrency) as session,
        ):
            daemon = _Daemon(settings, events, metrics, pool, session, stop)
            if not await daemon.prepare():
                return DRAINED
            try:
                drained = await supervise(daemon.services(started), stop)
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
    events.daemon_drained(took=time.monotonic() - daemon.asked_to_stop_at)
    return DRAINED


class _Daemon:
    """The introductions: who gets whom."""

    def __init__(
        self,
        settings: Settings,
        events: Events,
        metrics: Metrics,
        pool: asyncpg.Pool[asyncpg.Record],
        session: aiohttp.ClientSession,
        stop: Stop,
    ) -> None:
        self.settings = settings
        self.events = events
        self.metrics = metrics
        self.pool = pool
        self.session = session
        self.stop = stop
        self.asked_to_stop_at = time.monotonic()
        self.sending = 0
        self.drained = asyncio.Event()
        self.outbox = OutboxStore(pool)
        self.channels = ChannelStore(pool)
        self.letters = LetterStore(pool)
        self.permissions = PermissionStore(pool)
        self.inbox = InboxStore(pool)
        listen = settings.database.listen_url or settings.database.url
        self.doorbell = Doorbell(
            lambda: connect_listener(_secret(listen)),
            channels=(OUTBOX, INBOX, GEARS),
            observer=events,
        )
        self.gears = Gears(self.doorbell, channel=OUTBOX, observer=events, clock=time.monotonic)
        self.presence = Presence(
            self.inbox,
            database_lost=lambda error: events.database_lost(error=error),
            clock=time.monotonic,
        )
        self.journalled = JournalStore(pool)
        self.spool = _spool(settings)
        self.journal = Journal(
            self.journalled,
            written=self._webhooks_written,
            spool=self.spool,
            spooling=events.spool_begun,
            failed=self.presence.failed,
        )

    async def prepare(self) -> bool:
        """What must be true before anything is claimed. False: told to stop while that took its time.

        Raises SchemaNotSupported, or DatabaseUnreachable.
        """
        try:
            async with self.stop.interrupting():
                await self._prepare()
        except TimeoutError:  # the stop's: a slow database is DatabaseUnreachable
            return False
        return True

    async def _prepare(self) -> None:
        with outages():
            async with self.pool.acquire() as connection:
                await schema.require(connection)
        if self.spool is not None:
            await self.spool.open()
        for channel in self.settings.channels:
            await self.outbox.ensure_channel(
                channel.name,
                phone_number_id=channel.phone_number_id,
                messages_per_second=channel.messages_per_second,
                pair_seconds=channel.pair_seconds,
                pair_burst=channel.pair_burst,
            )
            if await self.channels.introduce(channel.name, token_hash=channel.token_hash):
                self.events.channel_resumed(channel=channel.name)
            await self.permissions.set_window(channel.name, WindowPolicy(channel.window_policy))
        await self.presence.begin()

    def services(self, started: float) -> dict[str, Service]:
        clients = {channel.name: self._client(channel) for channel in self.settings.channels}
        senders = {
            f"sender {channel.name}": self._until_drained(
                self._sender(channel, clients[channel.name]).run
            )
            for channel in self.settings.channels
        }
        self.sending = len(senders)
        probe = Probe(self.channels, clients, events=self.events, jitter=_jitter)
        reconciler = Reconciler(
            self.outbox,
            self.letters,
            events=self.events,
            sweep_interval=self.settings.outbox.sweep_interval,
            clock=time.monotonic,
            jitter=_jitter,
        )
        if self.spool is None:
            drainers: dict[str, Service] = {}
        else:
            drainer = Drainer(
                self.spool, self.journalled, written=self._webhooks_written, events=self.events
            )
            drainers = {"drainer": drainer.run}
        return {
            "doorbell": self.doorbell.run,
            "gears": self.gears.run,
            **senders,
            "probe": probe.run,
            "reconciler": reconciler.run,
            "receiver": lambda stop: self._receive(stop, started),
            **drainers,
            "presence": self.presence.run,
            **self._splitting(),
            "lag": lambda stop: watch_lag(stop, self.events),
        }

    def _webhooks_written(self) -> None:
        self.doorbell.ring(INBOX)

    def _until_drained(self, sender: Service) -> Service:
        async def run(stop: Stop) -> None:
            await sender(stop)
            self.sending -= 1
            if self.sending == 0:
                self.drained.set()

        return run

    def _client(self, channel: ChannelSettings) -> GraphClient:
        outbox = self.settings.outbox
        return GraphClient(
            self.session,
            base_url=self.settings.whatsapp.api_url,
            phone_number_id=channel.phone_number_id or "",
            access_token=_secret(channel.access_token) or "",
            total_timeout=outbox.request_timeout,
            connect_timeout=outbox.connect_timeout,
        )

    def _sender(self, channel: ChannelSettings, client: GraphClient) -> Sender:
        return Sender(
            channel.name,
            store=self.outbox,
            channels=self.channels,
            permissions=self.permissions,
            client=client,
            gears=self.gears,
            bell=self.doorbell.bell(OUTBOX),
            events=self.events,
            sending=self.settings.outbox.sending(channel),
            clock=time.monotonic,
            jitter=_jitter,
        )

    def _media(self) -> MediaLibrary:
        numbers = {
            channel.name: Number(channel.phone_number_id, self._client(channel))
            for channel in self.settings.channels
            if self.settings.outbox.send_enabled and channel.phone_number_id
        }
        return MediaLibrary(MediaStore(self.pool), numbers)

    def _splitting(self) -> dict[str, Service]:
        failures = Failures(
            self.letters,
            self.channels,
            events=self.events,
            patience=self.settings.outbox.patience,
            jitter=_jitter,
            requeued=lambda: self.doorbell.ring(OUTBOX),
        )
        return inbox_services(
            self.inbox,
            self.outbox,
            failures,
            fields={},
            events=self.events,
            bell=self.doorbell.bell(INBOX),
            lanes_freed=lambda: self.doorbell.ring(OUTBOX),
            sweep_interval=self.settings.outbox.sweep_interval,
            jitter=_jitter,
        )

    async def _receive(self, stop: Stop, started: float) -> None:
        """The web server and the journal behind it, which outlives it by the last commit."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.journal.run())
            async with self._serving() as addresses:
                self.events.daemon_started(
                    address=addresses.main,
                    admin_address=addresses.admin,
                    version=__version__,
                    channels=[channel.name for channel in self.settings.channels],
                )
                if await self._connected(stop):
                    self.events.daemon_ready(took=time.monotonic() - started)
                await stop.requested.wait()
                self.asked_to_stop_at = time.monotonic()
                # Until then /health/ready says 503, and the statuses of what is in flight are kept.
                await self.drained.wait()
            self.journal.close()

    def _serving(self) -> AbstractAsyncContextManager[Addresses]:
        whatsapp, http = self.settings.whatsapp, self.settings.http
        receiver = WebhookReceiver(
            journal=self.journal,
            events=self.events,
            app_secrets=self._app_secrets(),
            verify_token=_secret(whatsapp.verify_token),
        )
        health = Health(
            version=__version__,
            stopping=self.stop.requested.is_set,
            probes=(self._database, self._listener),
        )
        api = outbox_api(
            outbox=self.outbox,
            intake=IntakeStore(self.pool),
            campaigns=CampaignStore(self.pool),
            media=self._media(),
            ring=lambda: self.doorbell.ring(OUTBOX),
            auth=Authenticator(
                fixed={key.secret.get_secret_value(): key.scopes for key in http.api_keys},
                ring=KeyStore(self.pool),
                rate=http.rate_limit,
                clock=time.monotonic,
            ),
            audit=AuditStore(self.pool),
            clock=time.monotonic,
        )
        parts = Parts(
            webhooks=receiver, health=health, metrics=self.metrics, api=api, events=self.events
        )
        return serve_site(
            parts,
            host=http.host,
            port=http.port,
            admin_port=http.admin_port,
            tls_cert=http.tls_cert,
            tls_key=http.tls_key,
        )

    def _app_secrets(self) -> Sequence[str]:
        found = [*self.settings.whatsapp.app_secrets]
        for channel in self.settings.channels:
            found += channel.app_secrets
        return tuple(dict.fromkeys(secret.get_secret_value() for secret in found))

    async def _connected(self, stop: Stop) -> bool:
        bell = self.doorbell.bell(GEARS)  # every bell rings when the listener has connected
        while not self.doorbell.connected and not stop.requested.is_set():
            await bell.heard(1.0)
        return self.doorbell.connected

    def _database(self) -> Component:
        away = self.events.database_away
        return Component("database", ok=not away, detail="does not answer" if away else "answers")

    def _listener(self) -> Component:
        """Not required: without notifications rows are found too, only later."""
        connected = self.doorbell.connected
        detail = "listens" if connected else "reconnects"
        return Component("listener", ok=connected, detail=detail, required=False)


def _jitter() -> float:
    return random.uniform(0.9, 1.1)  # noqa: S311 it spreads load, it guards nothing


def _spool(settings: Settings) -> Spool | None:
    inbox = settings.inbox
    if inbox.spool_dir is None:
        return None
    return Spool(inbox.spool_dir, most_bytes=inbox.spool_max_bytes)


def _secret(value: object | None) -> str | None:
    if value is None:
        return None
    text: str = value.get_secret_value()  # type: ignore[attr-defined] # SecretStr, or a Dsn
    return text
