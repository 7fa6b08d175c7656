"""What an event of Chatwoot causes, in one transaction with its key.

A customer who writes in an inbox of Chatwoot's own becomes a message, a window and a turn like any other. What an agent writes
goes to the number's customer whose conversation it is, or was delivered by Chatwoot already. Whoever is assigned, or answers,
has it from then on. Left alone: private notes, what bots and automations say, what came from here (it has our marker), and what
is known.
"""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TypeAlias

from waemitter.chatwoot.messages import heard, said
from waemitter.chatwoot.webhooks import (
    Conversation,
    ConversationChanged,
    Event,
    MessageCreated,
)
from waemitter.inbox.desk.store import AgentWrote, DeskStore, State, Who
from waemitter.inbox.effects import Listener
from waemitter.inbox.gathering.gatherer import Gatherer, Said
from waemitter.inbox.store import Connection
from waemitter.observe.events import EventKind, Events
from waemitter.whatsapp.webhooks import Message as WhatsAppMessage

Tell: TypeAlias = Callable[[], None]


@dataclass(frozen=True, slots=True)
class Inboxes:
    """Which channel an inbox of the account is; that of None is every inbox that has none of its own."""

    account_id: int
    channels: Mapping[int | None, str]

    def channel(self, account_id: int | None, inbox_id: int | None) -> str | None:
        """None: it is not one of ours. A document that names no inbox is of the only one there is."""
        if account_id not in {None, self.account_id}:
            return None
        if inbox_id is None and len(self.channels) == 1:
            return next(iter(self.channels.values()))
        return self.channels.get(inbox_id) or self.channels.get(None)


@dataclass(frozen=True, slots=True)
class Terms:
    """`takeover`: how long an agent has a conversation after he wrote, or was assigned (`assigns`: that he was does count)."""

    takeover: datetime.timedelta
    assigns: bool = True


@dataclass(slots=True)
class Outcome:
    """To be told once it is committed."""

    kinds: Counter[EventKind] = field(default_factory=Counter)
    tell: list[Tell] = field(default_factory=list)


class DeskEffects:
    def __init__(
        self,
        store: DeskStore,
        inboxes: Inboxes,
        terms: Terms,
        *,
        gatherer: Gatherer,
        listener: Listener | None,
        events: Events,
    ) -> None:
        """`listener`: who looks for opt-outs in what customers write."""
        self._store = store
        self._inboxes = inboxes
        self._terms = terms
        self._gatherer = gatherer
        self._listener = listener
        self._events = events

    async def apply(self, connection: Connection, event: Event, *, webhook_id: int) -> Outcome:
        """Raises what the database or the gatherer raises: then nothing of it may be committed."""
        outcome = Outcome()
        if isinstance(event, MessageCreated | ConversationChanged):
            channel = self._inboxes.channel(event.account_id, event.inbox_id)
            if channel is None:
                outcome.kinds["unknown_number"] += 1
                return outcome
            if isinstance(event, MessageCreated):
                await self._message(connection, channel, event, webhook_id, outcome)
                state_at = event.conversation.told_at or event.message.created_at
            else:
                outcome.kinds["change"] += 1
                state_at = event.conversation.told_at
            await self._state(connection, channel, event.conversation, state_at, outcome)
        else:
            outcome.kinds["other"] += 1
        return outcome

    async def _message(
        self,
        connection: Connection,
        channel: str,
        event: MessageCreated,
        webhook_id: int,
        outcome: Outcome,
    ) -> None:
        message = event.message
        key = key_of(self._inboxes.account_id, message.id)
        if message.of_an_agent:
            await self._agent(connection, channel, event, key, webhook_id, outcome)
        elif message.message_type == "incoming" and not message.private and not message.marker:
            await self._customer(connection, channel, event, key, webhook_id, outcome)
        else:
            fresh = await self._store.fresh(connection, channel=channel, key=key)
            outcome.kinds["other" if fresh else "duplicate"] += 1

    async def _customer(
        self,
        connection: Connection,
        channel: str,
        event: MessageCreated,
        key: str,
        webhook_id: int,
        outcome: Outcome,
    ) -> None:
        who = who_of(event)
        sender = {
            **({"from": who.wa_id} if who.wa_id else {}),
            **({"from_user_id": who.user_id} if who.user_id else {}),
        }
        parts = heard(event.message, key=key, sender=sender)
        if not parts or not sender:
            fresh = await self._store.fresh(connection, channel=channel, key=key)
            outcome.kinds["other" if fresh else "duplicate"] += 1
            return
        kept = await self._store.receive(
            connection,
            channel=channel,
            chatwoot_id=event.conversation.id,
            key=key,
            parts=parts,
            who=who,
            at=event.message.created_at,
            webhook_id=webhook_id,
        )
        result = kept[0].result
        kinds: Mapping[str, EventKind] = {"received": "message", "duplicate": "duplicate"}
        outcome.kinds[kinds.get(result, "other")] += 1
        said_now = [
            Said(each.message_id, channel, each.contact_id, part)
            for each, part in zip(kept, parts, strict=False)
            if each.message_id is not None and each.contact_id is not None
        ]
        if self._listener is not None:
            for each in said_now:
                tell = await self._listener(
                    connection, channel, _as_whatsapp(each, who, event), each.message_id
                )
                outcome.tell += [tell] if tell else []
        tell = await self._gatherer.gather(connection, said_now)
        outcome.tell += [tell] if tell else []

    async def _agent(
        self,
        connection: Connection,
        channel: str,
        event: MessageCreated,
        key: str,
        webhook_id: int,
        outcome: Outcome,
    ) -> None:
        wrote = AgentWrote(
            channel,
            event.conversation.id,
            key,
            said(event.message),
            event.message.content or "",
            who_of(event),
            event.message.created_at,
            webhook_id,
        )
        answered = await self._store.hear_agent(connection, wrote, takeover=self._terms.takeover)
        kinds: Mapping[str, EventKind] = {"duplicate": "duplicate", "unknown": "unknown_number"}
        outcome.kinds[kinds.get(answered.result, "message")] += 1
        if answered.conversation_id is not None and answered.result in {"sent", "kept"}:
            outcome.tell.append(
                partial(
                    self._events.desk_answered,
                    channel=channel,
                    conversation_id=answered.conversation_id,
                    messages=len(answered.message_ids),
                )
            )

    async def _state(
        self,
        connection: Connection,
        channel: str,
        conversation: Conversation,
        at: datetime.datetime | None,
        outcome: Outcome,
    ) -> None:
        state = State(
            channel,
            conversation.id,
            conversation.status,
            conversation.assignee_id,
            conversation.knows_assignee,
            at,
        )
        moved = await self._store.hear_state(
            connection, state, takeover=self._terms.takeover, assigns=self._terms.assigns
        )
        if moved is not None:
            outcome.tell.append(
                partial(self._events.desk_moved, channel=channel, human=moved == "taken")
            )


def key_of(account_id: int, message_id: int) -> str:
    """By what a message of Chatwoot is known here."""
    return f"chatwoot.{account_id}.{message_id}"


def who_of(event: MessageCreated) -> Who:
    """The customer: by his phone number where Chatwoot has it, and always by Chatwoot's own id."""
    contact, source = event.contact, event.conversation.source_id
    if contact is None:
        return Who(None, None, None, source)
    digits = "".join(filter(str.isdigit, contact.phone_number or ""))
    named = contact.name if contact.name and contact.name.strip() else None
    return Who(digits or None, f"chatwoot.{contact.id}" if contact.id else None, named, source)


def _as_whatsapp(each: Said, who: Who, event: MessageCreated) -> WhatsAppMessage:
    return WhatsAppMessage(
        phone_number_id=None,
        field="messages",
        wamid=str(each.message["id"]),
        sender=who.wa_id,
        user_id=who.user_id,
        group_id=None,
        type=str(each.message["type"]),
        timestamp=event.message.created_at,
        contact=None,
        raw=dict(each.message),
    )
