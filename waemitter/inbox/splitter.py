"""Journalled webhooks are taken apart, and each of their items is handled once.

A batch of webhooks is one transaction, with what its items cause, their keys, and that the webhooks are done; a very long one
is several, and its last has the end. If some item cannot be handled, the batch is halved behind savepoints until that item
stands alone: it becomes a dead letter, and none of its neighbours feels it.
"""

import asyncio
import contextlib
import datetime
import hashlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeAlias

import orjson

from waemitter.errors import DatabaseUnreachable, WaemitterError
from waemitter.inbox.effects import Effects, Outcome
from waemitter.inbox.items import Found, unusable
from waemitter.inbox.journal.handover import LocalHandover
from waemitter.inbox.store import Connection, InboxStore, Webhook
from waemitter.observe.events import Events
from waemitter.outbox.bucket import InboundMeter
from waemitter.runtime.due_loop import Claim
from waemitter.whatsapp.numbers import Number
from waemitter.whatsapp.webhooks import Malformed, NotJson, parse

BATCH: Final = 250  # webhooks in one claim
AT_ONCE: Final = 300  # items in one transaction
LEASE: Final = datetime.timedelta(
    seconds=15
)  # a dead daemon's batch holds back whatever waits for a status
TRIES: Final = 3
RETRY_DELAY: Final = datetime.timedelta(seconds=30)
ASK_EVERY: Final = (
    1.0  # seconds between two looks at the table, while there is enough to do without
)
MOST_KNOWN: Final = 10_000  # numbers that are remembered as known: only an attacker has more

Learn: TypeAlias = Callable[[Connection, Sequence[Number]], Awaitable[None]]


class Unusable(WaemitterError):
    """An item that can have no effect, however often it is tried."""


class Splitter:
    """A DueTable whose rows are batches of webhooks."""

    def __init__(  # noqa: PLR0913 what it works with, by name
        self,
        store: InboxStore,
        effects: Effects,
        *,
        learn: Learn,
        events: Events,
        lanes_freed: Callable[[], None],
        parked: Callable[[], None],
        reserve: Callable[[str, int], Awaitable[None]],
        clock: Callable[[], float],
        handover: LocalHandover | None = None,
    ) -> None:
        """`handover`: what this process has just journalled.

        `lanes_freed()`: a status ended a message that others waited for; `parked()`: one waits for its message.

        `reserve(channel, rate)`: so many messages a second come in, which Meta counts against the limit.
        `learn` keeps which account a number is of; `clock` in seconds, monotonic.
        """
        self._store = store
        self._effects = effects
        self._learn = learn
        self._known: Final[set[Number]] = set()
        self._events = events
        self._lanes_freed = lanes_freed
        self._parked = parked
        self._reserve = reserve
        self._meter: Final = InboundMeter()
        self._owed: Final = dict[
            int, int
        ]()  # webhooks that an outage kept us from, with their attempts
        self._clock = clock
        self._handover = handover
        self._asked = -ASK_EVERY

    async def claim(self, limit: int) -> Claim[Sequence[Webhook]]:
        del limit  # one batch at a time; its size is the statement's
        if self._clock() - self._asked < ASK_EVERY and (handed := self._handed()):
            return Claim([handed], next_due=0.0)
        self._asked = self._clock()
        await self._give_back()
        webhooks = await self._store.claim(BATCH, lease=LEASE) or self._handed()
        self._events.database_back()
        if webhooks:
            return Claim([webhooks], next_due=0.0)
        return Claim((), next_due=await self._store.next_due())

    def _handed(self) -> list[Webhook]:
        return [] if self._handover is None else self._handover.next(BATCH)

    async def release(self, rows: Sequence[Sequence[Webhook]]) -> None:
        """A batch that was not started is due again when its lease ends; a worker starts each at once."""

    async def work(self, row: Sequence[Webhook]) -> None:
        async with asyncio.TaskGroup() as group:
            renewing = group.create_task(self._renew([webhook.id for webhook in row]))
            await self._work(row)
            renewing.cancel()

    async def close(self) -> None:
        """What was handed over and not begun is due at once, for others."""
        if self._handover is not None and (left := self._handover.close()):
            with contextlib.suppress(DatabaseUnreachable):  # their leases end
                await self._store.give_back({each.id: each.attempts for each in left})

    async def _give_back(self) -> None:
        """What an outage came between is due at once: its lease would be a minute's wait for nothing.

        Not one that was tried so often: if it is what brings the database down, it shall not do so again and again.
        """
        if mine := {each: n for each, n in self._owed.items() if n <= TRIES}:
            await self._store.give_back(mine)
        self._owed.clear()

    async def _renew(self, ids: Sequence[int]) -> None:
        """Keep the batch for as long as it is worked on."""
        while True:
            await asyncio.sleep(LEASE.total_seconds() / 3)
            with contextlib.suppress(DatabaseUnreachable):  # the work itself will say so
                await self._store.renew(ids, lease=LEASE)

    async def _work(self, row: Sequence[Webhook]) -> None:
        try:
            await self._work_on(row)
        except DatabaseUnreachable as error:
            self._events.database_lost(error=str(error))
            self._owed.update({webhook.id: webhook.attempts for webhook in row})
        except Exception as error:  # noqa: BLE001 whatever a body can cause, its neighbours must not feel it
            if len(row) == 1:
                await self._fail(row[0], error)
            else:
                for webhook in row:
                    await self._work([webhook])

    async def _work_on(self, webhooks: Sequence[Webhook]) -> None:
        started = self._clock()
        numbers = set[Number]()
        found = [each for webhook in webhooks for each in _items(webhook, numbers)]
        await self._meet(numbers)
        while len(found) > AT_ONCE:
            async with self._store.transaction() as connection:
                outcome = await self._isolate(connection, found[:AT_ONCE])
            await self._committed(webhooks[0].source, outcome)
            del found[:AT_ONCE]
        async with self._store.transaction() as connection:
            outcome = await self._isolate(connection, found)
            await self._store.done(connection, [webhook.id for webhook in webhooks])
        await self._committed(webhooks[0].source, outcome)
        self._events.webhook_processed(
            source=webhooks[0].source, count=len(webhooks), took=self._clock() - started
        )

    async def _meet(self, numbers: set[Number]) -> None:
        """What a number belongs to is told once, before anything that comes for its account."""
        if not (new := numbers - self._known):
            return
        async with self._store.transaction() as connection:
            await self._learn(connection, sorted(new, key=str))
        if len(self._known) < MOST_KNOWN:
            self._known.update(new)

    async def _isolate(self, connection: Connection, found: Sequence[Found]) -> Outcome:
        """Handle all but what cannot be handled, which is put aside."""
        if not found:
            return Outcome()
        try:
            async with self._store.savepoint(connection):
                return await self._effects.apply(connection, found)
        except DatabaseUnreachable:
            raise
        except Exception as error:  # noqa: BLE001 whatever an item can cause, its neighbours must not feel it
            if len(found) == 1:
                return await self._effects.bury(connection, found[0], error)
        half = len(found) // 2
        outcome = await self._isolate(connection, found[:half])
        outcome.add(await self._isolate(connection, found[half:]))
        return outcome

    async def _committed(self, source: str, outcome: Outcome) -> None:
        self._tell(source, outcome)
        for channel, rate in self._meter.received(outcome.received, now=self._clock()):
            await self._reserve(channel, rate)

    async def redo(self, *, source: str, payload: str) -> None:
        """Handle the item of a dead letter of the stage `split` once more; `payload` as bury() wrote it.

        Raises Unusable when it can have no effect, else what its effect raises.
        """
        found = _of_letter(source, payload)
        async with self._store.transaction() as connection:
            outcome = await self._effects.apply(connection, found)
        self._tell(source, outcome)

    def _tell(self, source: str, outcome: Outcome) -> None:
        self._events.items_handled(source=source, kinds=outcome.kinds)
        if unknown := outcome.kinds["unknown_number"]:
            self._events.number_unknown(source=source, count=unknown)
        for reason in outcome.malformed:
            self._events.webhook_malformed(source=source, reason=reason)
        for error in outcome.buried:
            self._events.webhook_item_failed(source=source, error=error)
        for update, echo, _ in outcome.heard:
            self._events.status_heard(
                status=update.word,
                message_id=echo.message_id if echo else None,
                correlation_id=echo.correlation_id if echo else None,
                error_code=update.code,
            )
        applied = outcome.applied
        if applied.counts:
            self._events.statuses_applied(applied.counts)
        for resolution, count in applied.resolutions():
            self._events.unconfirmed_resolved(resolution=resolution, count=count)
        if applied.freed:
            self._lanes_freed()
        if any(result == "parked" for _, result in applied.counts):
            self._parked()
        for tell in outcome.tell:
            tell()

    async def _fail(self, webhook: Webhook, error: Exception) -> None:
        self._events.webhook_item_failed(source=webhook.source, error=type(error).__name__)
        reason = f"{type(error).__name__}: it could not be applied"
        try:
            await self._store.failed(webhook.id, error=reason, attempts=TRIES, delay=RETRY_DELAY)
        except DatabaseUnreachable as outage:
            self._events.database_lost(error=str(outage))


def _of_letter(source: str, payload: str) -> list[Found]:
    letter = orjson.loads(payload)
    webhook_id, document = letter["webhook_id"], letter["webhook"]
    found = [Found(webhook_id, source, item) for item in parse(orjson.dumps(document))]
    reasons = [reason for each in found if (reason := unusable(each.item))]
    if not found:
        reasons = [f"the letter does not hold it; it is in webhook_logs, id {webhook_id}"]
    if reasons:
        raise Unusable("; ".join(reasons))
    return found


def _items(webhook: Webhook, numbers: set[Number]) -> list[Found]:
    try:
        items = parse(webhook.body, numbers)
    except NotJson as error:
        items = [Malformed(str(error), {"sha256": hashlib.sha256(webhook.body).hexdigest()})]
    return [Found(webhook.id, webhook.source, item) for item in items]
