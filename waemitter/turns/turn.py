"""What a handler gets, and what it may answer: the contract between the worker and whoever does the talking.

A handler is given one turn, all that a customer wrote in one window, and returns its replies. It never sends: the worker commits
replies, session and the end of the turn in one transaction, or none of it. So a handler may run more than once for the same turn
(a crash, a lost lock, a time-out), and what it does on its own account it should do by the `turn_id`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from waemitter.errors import WaemitterError


@dataclass(frozen=True, slots=True)
class Contact:
    """Who wrote. `wa_id`: digits as Meta spells them; `user_id`: the business-scoped one; at least one of them is there."""

    id: int
    wa_id: str | None
    user_id: str | None
    phone: str | None
    name: str | None


@dataclass(frozen=True, slots=True)
class Session:
    """What a service remembers of a contact until it says otherwise, or the session's time to live is over."""

    active_service: str | None = None
    context: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One window's messages, in the order of Meta's timestamps.

    `messages` are Meta's own message objects; `text` joins their texts, captions and button titles by new lines. `attempt`
    counts from 1.
    """

    turn_id: int
    attempt: int
    channel: str
    route: str
    conversation_id: int
    contact: Contact
    session: Session
    text: str
    messages: Sequence[Mapping[str, Any]]
    correlation_id: str | None = None

    def plain(self) -> dict[str, Any]:
        """As a service gets it over HTTP."""
        contact, session = self.contact, self.session
        return {
            "turn_id": self.turn_id,
            "attempt": self.attempt,
            "channel": self.channel,
            "route": self.route,
            "conversation_id": self.conversation_id,
            "contact": {
                "id": contact.id,
                "wa_id": contact.wa_id,
                "user_id": contact.user_id,
                "phone": contact.phone,
                "name": contact.name,
            },
            "session": {
                "active_service": session.active_service,
                "context": dict(session.context),
            },
            "text": self.text,
            "messages": list(self.messages),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a turn leads to. Nothing at all is a fine answer.

    `messages`: Cloud API objects, each `{"type": "text", "text": {…}}`, sent in this order through the outbox.
    `session`: what it becomes, None = as it was; one without an active_service has ended. `handover`: a human goes on from here.
    `desk`: the Chatwoot channel whose people get what the customer wrote.
    """

    messages: Sequence[Mapping[str, Any]] = ()
    session: Session | None = None
    handover: bool = False
    desk: str | None = None


class HandlerFailed(WaemitterError):
    """The turn has no answer. `retry`: the fault may pass; else it is a dead letter at once."""

    def __init__(self, reason: str, *, retry: bool) -> None:
        """`reason` is stored and logged: no phone number, no message text."""
        super().__init__(reason)
        self.retry = retry


class Handler(Protocol):
    """One way to answer."""

    async def handle(self, turn: Turn) -> Answer:
        """Raises HandlerFailed; any other exception is a dead letter at once. Cancelled when the lock was lost or time is up."""
        ...
