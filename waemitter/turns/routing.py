"""What the worker asks of the routes: who answers a turn, and why.

A decision is pure: the same facts, session and flags lead to the same route, on every daemon and in `waemitter route test`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeAlias

from waemitter.inbox.windows import Window
from waemitter.turns.turn import Contact, Handler, Session
from waemitter.turns.words import text_of

Supersede: TypeAlias = Literal["keep", "discard"]
"""What becomes of an answer when more was written while it was made: `keep` sends it, and the rest is a turn of its own;
`discard` drops it, and one turn answers both, at most twice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What was said, by whom, where: a turn before it has a route. See Turn for the fields."""

    channel: str
    conversation_id: int
    contact: Contact
    text: str
    messages: Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Flags:
    """The switches of the table feature_flags, as they are for this contact."""

    message_buffering: bool = True
    enhanced_processing: bool = True
    response_quality_enhancement: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """The route of a turn. `reason`: a sentence for an operator, without the customer's words.

    `service` becomes the session's active_service when the handler says nothing of the session; `ends_session`: the session is
    over before the handler is asked.
    """

    route: str
    reason: str
    handler: Handler
    buffer: Window
    ends_session: bool = False
    service: str | None = None
    supersede: Supersede = "keep"

    def session_before(self, session: Session) -> Session:
        """The session as the handler gets it."""
        return Session() if self.ends_session else session

    def session_after(self, session: Session, said: Session | None) -> Session | None:
        """What is to be written: what the handler `said`, else what the route asks for; None = as it was."""
        if said is not None:
            return said
        begun = self.session_before(session)
        if self.service is not None:
            begun = Session(self.service, begun.context)
        return None if begun == session else begun


class Router(Protocol):
    """The routes of this installation."""

    def decide(self, facts: Facts, session: Session, flags: Flags) -> Decision | None:
        """None: nobody answers, the turn is kept and ends without a reply."""
        ...


class RoutedWindows:
    """The windows of messages, as the routes say that these would take if they stood alone."""

    def __init__(self, router: Router, default: Window) -> None:
        """`default`: for what nobody answers."""
        self._router = router
        self._default = default

    def window(
        self, *, channel: str, message: Mapping[str, Any], active_service: str | None
    ) -> Window:
        """See Windows; a router that fails here is told of when the turn has its route."""
        facts = Facts(
            channel=channel,
            conversation_id=0,
            contact=_sender(message),
            text=text_of(message) or "",
            messages=[message],
        )
        try:
            decision = self._router.decide(facts, Session(active_service), Flags())
        except Exception:  # noqa: BLE001 a message must not be lost by a route
            return self._default
        return self._default if decision is None else decision.buffer


def _sender(message: Mapping[str, Any]) -> Contact:
    wa_id, user_id = message.get("from"), message.get("from_user_id")
    digits = wa_id if isinstance(wa_id, str) else None
    return Contact(
        id=0,
        wa_id=digits,
        user_id=user_id if isinstance(user_id, str) else None,
        phone=None if digits is None else f"+{digits}",
        name=None,
    )
