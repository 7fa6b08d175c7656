"""What the items of webhooks cause, within the transaction of the caller.

Each item has its effect once: its key is written with it. Statuses need none, see apply_statuses in schema.sql.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import orjson

from waemitter.inbox.failures import Failures
from waemitter.inbox.fields.offering import Offer, offer_of_status, offers_of
from waemitter.inbox.fields.past import HISTORY, as_history
from waemitter.inbox.gathering.gatherer import Gatherer
from waemitter.inbox.items import (
    FROM_NOBODY,
    LIVE,
    Found,
    Heard,
    answers,
    as_json,
    heard,
    inbound,
    kept,
    moves,
    notice,
    said,
    unusable,
    up_to_each_succession,
)
from waemitter.inbox.media.wishes import Wishes
from waemitter.inbox.store import (
    Connection,
    InboxStore,
    Key,
    Letter,
    Received,
)
from waemitter.observe.events import EventKind
from waemitter.outbox.store import Applied, OutboxStore
from waemitter.whatsapp.webhooks import (
    PRODUCT,
    ErrorNotice,
    FieldChange,
    Item,
    Malformed,
    Message,
    Status,
    document_of,
)

Tell: TypeAlias = Callable[[], None]
FieldHandler: TypeAlias = Callable[[Connection, FieldChange], Awaitable[Tell | None]]
"""The effect of one change of a field, once for each change; it returns what to tell when that is committed."""

Listener: TypeAlias = Callable[[Connection, str, Message, int | None], Awaitable[Tell | None]]
"""Hears every new message of one person: its channel, the message, and the id of its row."""


@dataclass(slots=True)
class Outcome:
    """What items caused, to be told once it is committed."""

    kinds: Counter[EventKind] = field(default_factory=Counter)
    received: Counter[str] = field(default_factory=Counter)  # messages by channel
    heard: list[Heard] = field(default_factory=list)
    applied: Applied = field(default_factory=lambda: Applied({}, 0, 0, 0, 0))
    malformed: list[str] = field(default_factory=list)  # reasons
    buried: list[str] = field(default_factory=list)  # classes of errors
    tell: list[Tell] = field(default_factory=list)

    def add(self, other: Outcome) -> None:
        self.kinds.update(other.kinds)
        self.received.update(other.received)
        self.heard += other.heard
        self.applied = self.applied.plus(other.applied)
        self.malformed += other.malformed
        self.buried += other.buried
        self.tell += other.tell


class Effects:
    def __init__(
        self,
        store: InboxStore,
        outbox: OutboxStore,
        failures: Failures,
        *,
        fields: Mapping[str, FieldHandler],
        listener: Listener | None = None,
        gatherer: Gatherer | None = None,
        media: Wishes | None = None,
    ) -> None:
        """`fields`: what a change of that field causes; a field that is not there is counted, and stays in the journal.

        `listener`: who looks for opt-outs in what people write. Without a `gatherer` nobody answers what they write.
        `media`: who wants the files that come with messages.
        """
        self._store = store
        self._outbox = outbox
        self._failures = failures
        self._fields = fields
        self._listener = listener
        self._gatherer = gatherer
        self._media = media

    async def apply(self, connection: Connection, found: Sequence[Found]) -> Outcome:
        """Raises what the database or a handler raises: then nothing of it may be committed.

        Locks are taken in the order of the house: conversations, then messages of the outbox.
        """
        outcome = Outcome()
        await self._receive(connection, found, outcome)
        await self._change(connection, found, outcome)
        await self._follow_statuses(connection, found, outcome)
        return outcome

    async def bury(self, connection: Connection, found: Found, error: Exception) -> Outcome:
        """Put an item aside that cannot be handled, once."""
        reason = f"{type(error).__name__}: {error}"
        outcome = Outcome()
        if await self._write_letters(connection, [(found, reason)], again=True):
            outcome.buried.append(type(error).__name__)
        return outcome

    async def _receive(
        self, connection: Connection, found: Sequence[Found], outcome: Outcome
    ) -> None:
        live: list[Found] = []
        nobodys: list[Found] = []
        for each in found:
            if not isinstance(each.item, Message) or each.item.field == HISTORY:
                continue
            if each.item.field != LIVE:
                outcome.kinds["change"] += 1  # it stays in the journal
            else:
                (nobodys if unusable(each.item) else live).append(each)
        for some in up_to_each_succession(live):
            results = await self._store.receive(connection, [inbound(each) for each in some])
            for received in results:
                kind: EventKind = "message" if received.result == "received" else received.result
                outcome.kinds[kind] += 1
                if kind == "message" and received.channel is not None:
                    outcome.received[received.channel] += 1
            await self._store.follow(connection, list(moves(some, results)))
            await self._store.count_answers(connection, list(answers(some, results)))
            await self._listen(connection, some, results, outcome)
            if self._media is not None:
                tell = await self._media.note(connection, list(kept(some, results)))
                outcome.tell += [tell] if tell else []
            if self._gatherer is not None:
                tell = await self._gatherer.gather(connection, list(said(some, results)))
                outcome.tell += [tell] if tell else []
        await self._put_aside(
            connection,
            [(each, FROM_NOBODY) for each in nobodys],
            outcome,
        )

    async def _listen(
        self,
        connection: Connection,
        found: Sequence[Found],
        results: Sequence[Received],
        outcome: Outcome,
    ) -> None:
        if self._listener is None:
            return
        for received in results:
            message = found[received.n].item
            if received.result != "received" or received.channel is None:
                continue
            if isinstance(message, Message) and message.group_id is None:
                tell = await self._listener(
                    connection, received.channel, message, received.message_id
                )
                outcome.tell += [tell] if tell else []

    async def _change(
        self, connection: Connection, found: Sequence[Found], outcome: Outcome
    ) -> None:
        changes: list[FieldChange] = []
        malformed: list[tuple[Found, str]] = []
        for each in found:
            if isinstance(each.item, Malformed):
                malformed.append((each, each.item.reason))
            elif isinstance(each.item, FieldChange):
                if each.item.product in {PRODUCT, None}:
                    changes.append(each.item)
                else:
                    outcome.kinds["other"] += 1
            elif isinstance(each.item, Message) and each.item.field == HISTORY:
                changes.append(as_history(each.item))
        await self._put_aside(connection, malformed, outcome)
        changes = await self._of_channels(connection, changes, outcome)
        keys = [
            Key(
                _digest(document_of(change)),
                change.field,
                change.phone_number_id or change.entry_id or "",
            )
            for change in changes
        ]
        fresh = await self._store.fresh(connection, keys)
        outcome.kinds["change"] += len(fresh)
        outcome.kinds["duplicate"] += len(changes) - len(fresh)
        for place in fresh:
            if handle := self._fields.get(changes[place].field):
                tell = await handle(connection, changes[place])
                outcome.tell += [tell] if tell else []
        offers = [offer for n in fresh for offer in offers_of(changes[n], keys[n].id)]
        statuses = (each.item for each in found if isinstance(each.item, Status))
        await self._offer(
            connection, [*offers, *filter(None, map(offer_of_status, statuses))], outcome
        )

    async def _of_channels(
        self, connection: Connection, changes: Sequence[FieldChange], outcome: Outcome
    ) -> list[FieldChange]:
        """All but those for a number of no channel: they leave no key, and come in with a replay once the channel is there."""
        named = {change.phone_number_id for change in changes if change.phone_number_id}
        strange = await self._store.strange(connection, sorted(named)) if named else set()
        known = [change for change in changes if change.phone_number_id not in strange]
        outcome.kinds["unknown_number"] += len(changes) - len(known)
        return known

    async def _offer(
        self, connection: Connection, offers: Sequence[Offer], outcome: Outcome
    ) -> None:
        """Routes may ask for what Meta tells beside messages."""
        if self._gatherer is not None and offers:
            tell = await self._gatherer.offer(connection, offers)
            outcome.tell += [tell] if tell else []

    async def _follow_statuses(
        self, connection: Connection, found: Sequence[Found], outcome: Outcome
    ) -> None:
        """Calls and payments have statuses too: those are counted alone."""
        statuses = [each.item for each in found if isinstance(each.item, Status)]
        outcome.kinds["status"] += len(statuses)
        outcome.heard += [heard(status) for status in statuses if status.kind is None]
        # In the order in which everybody locks messages, across the statements of this transaction too.
        updates = sorted(
            (each.update for each in outcome.heard), key=lambda update: update.message_id or 0
        )
        outcome.applied = await self._outbox.apply_statuses(connection, updates)
        failures = [each.failure for each in outcome.heard if each.failure is not None]
        notices = [notice(each.item) for each in found if isinstance(each.item, ErrorNotice)]
        outcome.kinds["error"] += len(notices)
        if failures or notices:
            outcome.tell.append(await self._failures.apply(connection, failures, notices))

    async def _put_aside(
        self, connection: Connection, found: Sequence[tuple[Found, str]], outcome: Outcome
    ) -> None:
        fresh = await self._write_letters(connection, found, again=False)
        outcome.malformed += [found[place][1] for place in fresh]
        outcome.kinds["duplicate"] += len(found) - len(fresh)

    async def _write_letters(
        self, connection: Connection, found: Sequence[tuple[Found, str]], *, again: bool
    ) -> list[int]:
        """Returns the places of those that were not written before."""
        documents = [_document(each) for each, _ in found]
        keys = [Key(_digest(document), "dead_letters", "") for document in documents]
        fresh = await self._store.fresh(connection, keys)
        letters = [
            Letter(
                found[place][0].source,
                _wamid(found[place][0].item),
                as_json({"webhook_id": found[place][0].webhook_id, "webhook": documents[place]}),
                found[place][1],
                again,
            )
            for place in fresh
        ]
        await self._store.bury(connection, letters)
        return fresh


def _document(found: Found) -> dict[str, Any]:
    """A webhook of this item alone; of what cannot be written down, only where in the journal it is."""
    document = document_of(found.item)
    try:
        as_json(document)
    except TypeError:  # nested deeper than anything of Meta's, or an integer beyond 64 bits
        return {"webhook_id": found.webhook_id}
    return document


def _wamid(item: Item) -> str | None:
    return item.wamid if isinstance(item, Message | Status) else None


def _digest(document: dict[str, Any]) -> str:
    text = as_json(document, orjson.OPT_SORT_KEYS)
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"
