"""What a service may answer, as a document: replies, what becomes of the session, and whether a human goes on. Pure.

{"messages": [{"type": "text", "text": {"body": "…"}}], "session": {"active_service": "rides", "context": {…}}, "handover": false}
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError

from waemitter.errors import PayloadError
from waemitter.turns.turn import Answer, Session
from waemitter.whatsapp.payloads import problems

MOST_MESSAGES: Final = 30
"""Replies of one turn: Meta lets one recipient have 45 messages at once, and then one in six seconds."""

_RULES: Final[Mapping[str, str]] = {
    "extra_forbidden": "is not known here",
    "too_long": f"holds more than {MOST_MESSAGES}",
    "list_type": "must be an array",
    "dict_type": "must be an object",
    "string_type": "must be text",
    "string_too_short": "must not be empty",
    "string_too_long": "has more than 63 characters",
    "bool_type": "must be true or false",
}


class SessionDocument(BaseModel):
    """What is left out stays as it was; `null` as active_service ends the session."""

    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True, frozen=True)

    active_service: str | None = Field(
        None,
        min_length=1,
        max_length=63,
        validation_alias=AliasChoices("active_service", "activeService"),
        description="Whose the next messages are; null ends the session.",
        examples=["rides"],
    )
    context: dict[str, Any] = Field(
        default_factory=dict, description="What the service remembers; replaces what was there."
    )


class AnswerDocument(BaseModel):
    """Every key may be left out."""

    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True, frozen=True)

    messages: list[dict[str, Any]] = Field(
        default_factory=list,
        max_length=MOST_MESSAGES,
        description="The Cloud API's objects, in the order in which they leave.",
        examples=[[{"type": "text", "text": {"body": "Your ride is on its way"}}]],
    )
    session: SessionDocument | None = None
    handover: bool = Field(default=False, description="A human goes on from here.")

    def answer(self, *, before: Session, service: str | None = None) -> Answer:
        """Complete it: `before` is the session as the turn found it, `service` the route's."""
        return Answer(
            messages=tuple(self.messages),
            session=self._session(before, service),
            handover=self.handover,
        )

    def _session(self, before: Session, service: str | None) -> Session | None:
        if self.session is None:
            return None
        given = self.session.model_fields_set
        active = service or before.active_service
        return Session(
            active_service=self.session.active_service if "active_service" in given else active,
            context=self.session.context if "context" in given else before.context,
        )


def parse_answer(document: Any, *, before: Session, service: str | None = None) -> Answer:
    """Read what a handler gave; None is no reply. Raises PayloadError with the field, and nothing of its content."""
    if document is None:
        return Answer()
    if not isinstance(document, Mapping):
        raise PayloadError("answer", "must be an object")
    try:
        parsed = AnswerDocument.model_validate(dict(document))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        path = ".".join(str(step) for step in first["loc"])
        raise PayloadError(path, _RULES.get(first["type"], "is wrong")) from None
    for fault in faults(parsed.messages):
        raise fault
    return parsed.answer(before=before, service=service)


def faults(messages: Sequence[Mapping[str, Any]]) -> list[PayloadError]:
    """All that Meta would refuse in replies, each with its path from `messages[0]` on."""
    found: list[PayloadError] = []
    for place, message in enumerate(messages):
        root = f"messages[{place}]"
        kind = message.get("type")
        if not isinstance(kind, str) or not kind:
            found.append(PayloadError(f"{root}.type", "must be a message type, such as text"))
            continue
        payload = {key: value for key, value in message.items() if key != "type"}
        found += [
            PayloadError(f"{root}{each.field.removeprefix('payload')}", each.reason)
            for each in problems(kind, payload)
        ]
    return found
