"""Journalled webhooks are taken apart, and their statuses applied to the outbox.

What a batch of webhooks causes and that they are done are one transaction; applying a status twice changes nothing. If a batch
cannot be applied its webhooks go one by one, so that a bad one harms none of its neighbours.
"""

import datetime
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from waemitter.errors import DatabaseUnreachable
from waemitter.inbox.store import InboxStore, Webhook
from waemitter.observe.events import EventKind, Events
from waemitter.outbox.message import read_echo
from waemitter.outbox.store import Applied, OutboxStore, StatusUpdate
from waemitter.runtime.due_loop import Claim
from waemitter.whatsapp.errors import classify_status_error
from waemitter.whatsapp.webhooks import (
    ErrorNotice,
    FieldChange,
    Item,
    Malformed,
    Message,
    NotJson,
    Status,
    parse,
)

BATCH: Final = 100  # webhooks in one transaction
KINDS: Final[Mapping[type[Item], EventKind]] = {
    Message: "message",
    Status: "status",
    ErrorNotice: "error",
    FieldChange: "change",
}
AT_ONCE: Final = 300  # statuses in one statement
LEASE: Final = datetime.timedelta(seconds=60)
TRIES: Final = 3
RETRY_DELAY: Final = datetime.timedelta(seconds=30)


class Splitter:
    """A DueTable whose rows are batches of webhooks."""

    def __init__(
        self,
        store: InboxStore,
        outbox: OutboxStore,
        *,
        events: Events,
        lanes_freed: Callable[[], None],
        clock: Callable[[], float],
    ) -> None:
        """`lanes_freed()`: a status ended a message that others waited for; `clock` in seconds, monotonic."""
        self._store = store
        self._outbox = outbox
        self._events = events
        self._lanes_freed = lanes_freed
        self._clock = clock

    async def claim(self, limit: int) -> Claim[Sequence[Webhook]]:
        del limit  # one batch at a time; its size is the statement's
        webhooks = await self._store.claim(BATCH, lease=LEASE)
        self._events.database_back()
        if webhooks:
            return Claim([webhooks], next_due=0.0)
        return Claim((), next_due=await self._store.next_due())

    async def release(self, rows: Sequence[Sequence[Webhook]]) -> None:
        """A batch that was not started is due again when its lease ends; a worker starts each at once."""

    async def work(self, row: Sequence[Webhook]) -> None:
        try:
            await self._work_on(row)
        except DatabaseUnreachable as error:
            self._events.database_lost(
                error=str(error)
            )  # the lease ends, and some daemon does it again
        except Exception as error:  # noqa: BLE001 whatever a body can cause, its neighbours must not feel it
            if len(row) == 1:
                await self._fail(row[0], error)
            else:
                for webhook in row:
                    await self.work([webhook])

    async def _work_on(self, webhooks: Sequence[Webhook]) -> None:
        started = self._clock()
        updates: list[StatusUpdate] = []
        kinds: Counter[EventKind] = Counter()
        for webhook in webhooks:
            for item in self._items(webhook):
                if isinstance(item, Malformed):
                    self._events.webhook_malformed(reason=item.reason)
                    continue
                kinds[KINDS[type(item)]] += 1
                if isinstance(item, Status) and item.kind is None:
                    updates.append(self._update(item))
        applied = Applied({}, 0, 0, 0, 0)
        # In the order in which everybody locks messages, across the statements of this transaction too.
        updates.sort(key=lambda update: update.message_id or 0)
        async with self._store.transaction() as connection:
            for first in range(0, len(updates), AT_ONCE):
                some = updates[first : first + AT_ONCE]
                applied = _sum(applied, await self._outbox.apply_statuses(connection, some))
            await self._store.done(connection, [webhook.id for webhook in webhooks])
        self._tell(webhooks, kinds, applied, self._clock() - started)

    def _items(self, webhook: Webhook) -> list[Item]:
        try:
            return parse(webhook.body)
        except NotJson as error:
            return [Malformed(str(error), None)]

    def _tell(
        self, webhooks: Sequence[Webhook], kinds: Counter[EventKind], applied: Applied, took: float
    ) -> None:
        self._events.webhook_processed(
            source=webhooks[0].source, count=len(webhooks), kinds=dict(kinds), took=took
        )
        if applied.counts:
            self._events.statuses_applied(applied.counts)
        for resolution, count in applied.resolutions():
            self._events.unconfirmed_resolved(resolution=resolution, count=count)
        if applied.freed:
            self._lanes_freed()

    def _update(self, status: Status) -> StatusUpdate:
        echo = read_echo(status.echo)
        refused = classify_status_error(status.errors) if status.status == "failed" else None
        self._events.status_heard(
            status=status.status,
            message_id=echo.message_id if echo else None,
            correlation_id=echo.correlation_id if echo else None,
            error_code=refused.code if refused else None,
        )
        return StatusUpdate(
            message_id=echo.message_id if echo else None,
            token=echo.token if echo else None,
            wamid=status.wamid,
            word=status.status,
            at=status.timestamp,
            code=refused.code if refused else None,
            reason=refused.message if refused else None,
            category=status.pricing_category,
            billable=status.billable,
        )

    async def _fail(self, webhook: Webhook, error: Exception) -> None:
        reason = f"{type(error).__name__}: it could not be applied"
        self._events.webhook_malformed(reason=reason)
        try:
            await self._store.failed(webhook.id, error=reason, attempts=TRIES, delay=RETRY_DELAY)
        except DatabaseUnreachable as outage:
            self._events.database_lost(error=str(outage))


def _sum(one: Applied, other: Applied) -> Applied:
    counts = Counter(one.counts)
    counts.update(other.counts)
    return Applied(dict(counts), *map(sum, zip(one[1:], other[1:], strict=True)))
