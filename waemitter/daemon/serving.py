"""What the daemon answers over HTTP: webhooks, health, metrics, and the API."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import timedelta

from waemitter import __version__
from waemitter.daemon.dashboard import dashboard
from waemitter.daemon.knocking import knock
from waemitter.daemon.sending import graph_client
from waemitter.daemon.shared import OUTBOX, Shared, secret
from waemitter.inbox.conversations.store import ConversationStore
from waemitter.inbox.journal.writer import Journal
from waemitter.jobs.desk import JobDesk
from waemitter.jobs.store import JobStore
from waemitter.outbox.campaigns.store import CampaignStore
from waemitter.outbox.intake.store import IntakeStore
from waemitter.outbox.media.library import MediaLibrary, Number
from waemitter.outbox.media.store import MediaStore
from waemitter.outbox.store import OutboxStore
from waemitter.runtime.gears import GEARS
from waemitter.runtime.supervise import Stop
from waemitter.turns.replies.store import ReplyStore
from waemitter.web.api.assembly import outbox_api
from waemitter.web.api.serving import Api
from waemitter.web.app import Parts
from waemitter.web.auth import Authenticator
from waemitter.web.chatwoot import SOURCE, ChatwootReceiver
from waemitter.web.dashboard.pulse import Pulse
from waemitter.web.health import Component, Health
from waemitter.web.site import Addresses, serve_site
from waemitter.web.store import AuditStore, KeyStore
from waemitter.web.webhooks import WebhookReceiver


class Receiver:
    """The web server, and the journal behind it."""

    def __init__(
        self,
        shared: Shared,
        journal: Journal,
        *,
        drained: asyncio.Event,
        ready: Callable[[], None],
        started: float,
    ) -> None:
        """`drained`: nothing is in flight any more; `ready()`: whoever started us is told that we are.

        `started`: when the process was, by time.monotonic().
        """
        self.asked_to_stop_at = time.monotonic()
        self._shared = shared
        self._journal = journal
        self._drained = drained
        self._ready = ready
        self._started = started
        self._address: str | None = None
        self.pulse = Pulse(shared.metrics, clock=time.monotonic)
        shared.doorbell.watch(self.pulse.notified)

    async def run(self, stop: Stop) -> None:
        events, settings = self._shared.events, self._shared.settings
        async with asyncio.TaskGroup() as group:
            group.create_task(self._journal.run())
            async with self._serving() as addresses:
                self._address = addresses.main
                events.daemon_started(
                    address=addresses.main,
                    admin_address=addresses.admin,
                    version=__version__,
                    channels=settings.channel_names,
                    agents={
                        agent.name: [tool.name for tool in agent.tools] for agent in settings.agents
                    },
                    sources=[SOURCE] if settings.desks else [],
                )
                if self._journal.held:
                    self._ready()  # to take webhooks: whoever waits for more would stop us
                if await self._connected(stop):
                    events.daemon_ready(
                        took=time.monotonic() - self._started,
                        promised=self._shared.settings.slo.cold_start,
                    )
                    self._ready()
                await stop.requested.wait()
                self.asked_to_stop_at = time.monotonic()
                # Until then /health/ready says 503, and the statuses of what is in flight are kept.
                await self._drained.wait()
            self._journal.close()

    async def _connected(self, stop: Stop) -> bool:
        doorbell = self._shared.doorbell
        bell = doorbell.bell(GEARS)  # every bell rings when the listener has connected
        while not doorbell.connected and not stop.requested.is_set():
            await bell.heard(1.0)
        return doorbell.connected

    def _serving(self) -> AbstractAsyncContextManager[Addresses]:
        shared, http = self._shared, self._shared.settings.http
        receiver = WebhookReceiver(
            journal=self._journal,
            events=shared.events,
            app_secrets=self._app_secrets(),
            verify_tokens=self._verify_tokens(),
        )
        auth = self._auth()
        health = Health(
            version=__version__,
            stopping=shared.stop.requested.is_set,
            probes=(self._database, self._listener),
        )
        parts = Parts(
            webhooks=receiver,
            health=health,
            metrics=shared.metrics,
            api=self._api(auth),
            events=shared.events,
            dashboard=dashboard(shared, auth=auth, pulse=self.pulse, knock=self._knock),
            chatwoot=self._chatwoot(auth),
        )
        return serve_site(
            parts,
            host=http.host,
            port=http.port,
            admin_port=http.admin_port,
            tls_cert=http.tls_cert,
            tls_key=http.tls_key,
        )

    async def _knock(self) -> int | None:
        secrets = self._app_secrets()
        if not secrets or self._address is None:
            return None
        return await knock(self._shared.session, self._address, secrets[0])

    def _chatwoot(self, auth: Authenticator) -> ChatwootReceiver | None:
        settings = self._shared.settings
        if not settings.desks:
            return None
        return ChatwootReceiver(
            secrets=[each.get_secret_value() for each in settings.chatwoot.webhook_secrets],
            path_secret=secret(settings.chatwoot.webhook_path),
            signatures=settings.chatwoot.signatures,
            auth=auth,
            journal=self._journal,
            events=self._shared.events,
            wall=time.time,
        )

    def _auth(self) -> Authenticator:
        http = self._shared.settings.http
        return Authenticator(
            fixed={key.secret.get_secret_value(): key.scopes for key in http.api_keys},
            ring=KeyStore(self._shared.pool),
            rate=http.rate_limit,
            clock=time.monotonic,
        )

    def _api(self, auth: Authenticator) -> Api:
        shared = self._shared
        takeover = timedelta(seconds=shared.settings.inbox.takeover)
        return outbox_api(
            outbox=OutboxStore(shared.pool),
            intake=IntakeStore(shared.pool),
            campaigns=CampaignStore(shared.pool),
            media=self._media(),
            jobs=JobDesk(JobStore(shared.pool)),
            replies=ReplyStore(
                shared.pool,
                session_ttl=timedelta(seconds=shared.settings.sessions.ttl),
                takeover=takeover,
            ),
            conversations=ConversationStore(shared.pool),
            takeover=takeover,
            ring=lambda: shared.doorbell.ring(OUTBOX),
            auth=auth,
            audit=AuditStore(shared.pool),
            clock=time.monotonic,
            read_only=shared.settings.http.read_only,
        )

    def _media(self) -> MediaLibrary:
        settings = self._shared.settings
        numbers = {
            channel.name: Number(channel.phone_number_id, graph_client(self._shared, channel))
            for channel in settings.channels
            if settings.outbox.send_enabled and channel.phone_number_id
        }
        return MediaLibrary(MediaStore(self._shared.pool), numbers)

    def _app_secrets(self) -> Sequence[str]:
        settings = self._shared.settings
        found = [*settings.whatsapp.app_secrets]
        for channel in settings.channels:
            found += channel.app_secrets
        return tuple(dict.fromkeys(each.get_secret_value() for each in found))

    def _verify_tokens(self) -> Sequence[str]:
        settings = self._shared.settings
        found = [secret(settings.whatsapp.verify_token)]
        found += [secret(channel.verify_token) for channel in settings.channels]
        return tuple(dict.fromkeys(token for token in found if token))

    def _database(self) -> Component:
        """With a spool not required: webhooks are taken, and a balancer should go on sending them."""
        away = self._shared.events.database_away
        spools = self._shared.settings.inbox.spool_dir is not None
        detail = "does not answer; webhooks are kept on disk" if spools else "does not answer"
        return Component(
            "database", ok=not away, detail=detail if away else "answers", required=not spools
        )

    def _listener(self) -> Component:
        """Not required: without notifications rows are found too, only later."""
        connected = self._shared.doorbell.connected
        detail = "listens" if connected else "reconnects"
        return Component("listener", ok=connected, detail=detail, required=False)
