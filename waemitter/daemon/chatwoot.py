"""Chatwoot: its inboxes are channels, its webhooks are a source, its people answer."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import timedelta

from waemitter.chatwoot.client import ChatwootClient
from waemitter.daemon.shared import INBOX, Shared, jitter, secret
from waemitter.inbox.desk.effects import DeskEffects, Inboxes, Terms
from waemitter.inbox.desk.reconciler import DeskReconciler
from waemitter.inbox.desk.splitter import SOURCE, DeskSplitter
from waemitter.inbox.desk.store import DeskStore
from waemitter.inbox.fields.actions import OptOuts
from waemitter.inbox.fields.store import FieldStore
from waemitter.inbox.gathering.gatherer import Gatherer
from waemitter.inbox.journal.records import Entry
from waemitter.inbox.journal.store import JournalStore
from waemitter.inbox.store import InboxStore
from waemitter.outbox.carriers.chatwoot.carrier import ChatwootCarrier
from waemitter.outbox.carriers.chatwoot.files import Fetched
from waemitter.outbox.carriers.chatwoot.store import PlaceStore
from waemitter.runtime.due_loop import DueLoop, Fixed
from waemitter.runtime.supervise import Service
from waemitter.whatsapp.client import GraphClient

ONE = 1


def chatwoot_client(shared: Shared) -> ChatwootClient:
    """The account's; with `chatwoot.base_url` alone."""
    chatwoot, outbox = shared.settings.chatwoot, shared.settings.outbox
    return ChatwootClient(
        shared.session,
        base_url=chatwoot.base_url or "",
        account_id=chatwoot.account_id or 0,
        api_token=secret(chatwoot.api_token) or "",
        total_timeout=outbox.request_timeout,
        connect_timeout=outbox.connect_timeout,
    )


def chatwoot_carriers(
    shared: Shared, numbers: Mapping[str, GraphClient]
) -> dict[str, ChatwootCarrier]:
    """By channel; `numbers` have the files that customers sent."""
    store, client = PlaceStore(shared.pool), chatwoot_client(shared)
    files = Fetched(
        shared.session,
        numbers,
        base_url=shared.settings.chatwoot.base_url or "",
        timeout=shared.settings.outbox.request_timeout,
    )
    return {
        desk.name: ChatwootCarrier(desk.name, store, client, inbox_id=desk.inbox_id, files=files)
        for desk in shared.settings.desks
    }


class Desk:
    """What comes from Chatwoot: `redo` is the dead letters', `reconcile` a job."""

    def __init__(self, shared: Shared, gatherer: Gatherer) -> None:
        self._shared = shared
        settings = shared.settings
        rules = settings.field_rules
        inboxes = Inboxes(
            settings.chatwoot.account_id or 0,
            {desk.inbox_id: desk.name for desk in settings.desks},
        )
        store = DeskStore(shared.pool)
        effects = DeskEffects(
            store,
            inboxes,
            Terms(timedelta(seconds=settings.inbox.takeover), assigns=settings.chatwoot.assignment),
            gatherer=gatherer,
            listener=OptOuts(FieldStore(), rules, events=shared.events).hear,
            events=shared.events,
        )
        first_retry = timedelta(seconds=settings.dlq.retry_delays[0])
        self._splitter = DeskSplitter(
            InboxStore(shared.pool, first_retry=first_retry),
            effects,
            events=shared.events,
            clock=time.monotonic,
        )
        self.redo = self._splitter.redo
        self._journalled = JournalStore(shared.pool)
        self.reconcile = DeskReconciler(
            store,
            chatwoot_client(shared),
            inboxes,
            journal=self._journal,
            clock=time.monotonic,
        ).run

    def services(self) -> dict[str, Service]:
        shared = self._shared
        loop = DueLoop(
            self._splitter,
            shared.doorbell.bell(INBOX),
            capacity=Fixed(ONE),
            batch_size=ONE,
            sweep_interval=shared.settings.outbox.sweep_interval,
            jitter=jitter,
            database_lost=lambda error: shared.events.database_lost(error=error),
        )
        return {"chatwoot": loop.run}

    async def _journal(self, bodies: Sequence[bytes]) -> None:
        await self._journalled.append([Entry(SOURCE, body, "{}") for body in bodies])
        self._shared.doorbell.ring(INBOX)
