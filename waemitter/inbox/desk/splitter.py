"""Chatwoot's webhooks are worked off: each is one event, and one transaction with what it causes.

They have a loop of their own, so that neither source holds up the other.
"""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Callable, Sequence
from typing import Any, Final

import orjson

from waemitter.chatwoot.webhooks import Event, Malformed, parse, read
from waemitter.errors import DatabaseUnreachable
from waemitter.inbox.desk.effects import DeskEffects, Outcome
from waemitter.inbox.splitter import Unusable
from waemitter.inbox.store import Connection, InboxStore, Key, Letter, Webhook
from waemitter.observe.events import Events
from waemitter.runtime.due_loop import Claim

SOURCE: Final = "chatwoot"
BATCH: Final = 20
LEASE: Final = datetime.timedelta(seconds=30)


class DeskSplitter:
    """A DueTable whose rows are webhooks, one at a time and in their order."""

    def __init__(
        self,
        store: InboxStore,
        effects: DeskEffects,
        *,
        events: Events,
        clock: Callable[[], float],
    ) -> None:
        """`clock` in seconds, monotonic."""
        self._store = store
        self._effects = effects
        self._events = events
        self._clock = clock

    async def claim(self, limit: int) -> Claim[Sequence[Webhook]]:
        del limit  # one batch at a time; its size is the statement's
        webhooks = await self._store.claim(BATCH, lease=LEASE, of_chatwoot=True)
        self._events.database_back()
        if webhooks:
            return Claim([webhooks], next_due=0.0)
        return Claim((), next_due=await self._store.next_due(of_chatwoot=True))

    async def release(self, rows: Sequence[Sequence[Webhook]]) -> None:
        """A batch that was not started is due again when its lease ends; a worker starts each at once."""

    async def work(self, row: Sequence[Webhook]) -> None:
        started, done = self._clock(), 0
        try:
            for webhook in row:
                await self._work(webhook)
                done += 1
        except DatabaseUnreachable as error:
            self._events.database_lost(error=str(error))  # the leases of the rest end
        if done:
            self._events.webhook_processed(source=SOURCE, count=done, took=self._clock() - started)

    async def redo(self, *, payload: str) -> None:
        """Handle the webhook of a dead letter once more. Raises Unusable, else what its effect raises."""
        letter = orjson.loads(payload)
        try:
            event = read(letter["webhook"])
        except Malformed as error:
            raise Unusable(str(error)) from None
        async with self._store.transaction() as connection:
            outcome = await self._effects.apply(connection, event, webhook_id=letter["webhook_id"])
        self._tell(outcome)

    async def _work(self, webhook: Webhook) -> None:
        try:
            event = parse(webhook.body)
        except Malformed as error:
            await self._put_aside(webhook, str(error), again=False)
            self._events.webhook_malformed(source=SOURCE, reason=str(error))
            return
        try:
            self._tell(await self._applied(webhook, event))
        except DatabaseUnreachable:
            raise
        except Exception as error:  # noqa: BLE001 whatever a webhook can cause, the next ones must not feel it
            await self._put_aside(webhook, f"{type(error).__name__}: {error}", again=True)
            self._events.webhook_item_failed(source=SOURCE, error=type(error).__name__)

    async def _applied(self, webhook: Webhook, event: Event) -> Outcome:
        async with self._store.transaction() as connection:
            outcome = await self._effects.apply(connection, event, webhook_id=webhook.id)
            await self._store.done(connection, [webhook.id])
        return outcome

    async def _put_aside(self, webhook: Webhook, reason: str, *, again: bool) -> None:
        async with self._store.transaction() as connection:
            await self._bury(connection, webhook, reason, again=again)
            await self._store.done(connection, [webhook.id])

    async def _bury(
        self, connection: Connection, webhook: Webhook, reason: str, *, again: bool
    ) -> None:
        digest = hashlib.sha256(webhook.body).hexdigest()
        if await self._store.fresh(connection, [Key(f"sha256:{digest}", "dead_letters", "")]):
            document: dict[str, Any] = {"webhook_id": webhook.id, "webhook": None}
            if again:  # it was read, so it can be written
                document["webhook"] = orjson.loads(webhook.body.replace(b"\\u0000", b"\\ufffd"))
            text = orjson.dumps(document).decode()
            await self._store.bury(connection, [Letter(SOURCE, None, text, reason, again)])

    def _tell(self, outcome: Outcome) -> None:
        self._events.items_handled(source=SOURCE, kinds=outcome.kinds)
        if unknown := outcome.kinds["unknown_number"]:
            self._events.number_unknown(source=SOURCE, count=unknown)
        for tell in outcome.tell:
            tell()
