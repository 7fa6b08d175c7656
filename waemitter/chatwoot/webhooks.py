"""One POST of Chatwoot becomes one event.

Shapes differ by version and by place: `message_type` is a word at the top and a number in lists, times are ISO, "2020-03-03
13:05:57 UTC" or seconds since 1970, `sender` may be null, `content` is null beside attachments. `conversation.id` is the number
within its account. What the API lists (messages of a conversation, conversations of an inbox) is read here too, and gives the
same events.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal, TypeAlias

import orjson
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

MessageKind: TypeAlias = Literal["incoming", "outgoing", "activity", "template"]

MARKER: Final = "waemitter"
"""The key of `content_attributes` with which a message of ours says so; Chatwoot keeps and returns what it does not know."""

_KINDS: Final[tuple[MessageKind, ...]] = ("incoming", "outgoing", "activity", "template")
_LARGEST_ID: Final = 2**63 - 1


class Malformed(Exception):
    """The document is none of Chatwoot's; the text names the field, and quotes nothing."""


def _kind(value: Any) -> Any:
    known = type(value) is int and 0 <= value < len(_KINDS)
    return _KINDS[value] if known else value


def instant(value: Any) -> datetime | None:
    """Read a time as Chatwoot writes it somewhere or other; None for what is none."""
    if isinstance(value, str) and not value.replace(".", "", 1).isdigit():
        text = value.strip().removesuffix(" UTC").replace(" ", "T")
        try:
            found = datetime.fromisoformat(text)
        except ValueError:
            return None
        return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    try:
        return datetime.fromtimestamp(float(value), UTC)
    except (ValueError, TypeError, OverflowError, OSError):
        return None


def _object(value: Any) -> Any:
    return value if isinstance(value, dict) else None


def _text(value: Any) -> Any:
    return str(value) if type(value) in {int, float} else value


def _objects(value: Any) -> Any:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


Id = Annotated[int, Field(ge=1, le=_LARGEST_ID)]
Instant = Annotated[datetime | None, BeforeValidator(instant)]
Text = Annotated[str | None, BeforeValidator(_text)]


class _Shape(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, hide_input_in_errors=True)


class Attachment(_Shape):
    """`file_type`: image, audio, video, file, location, fallback, contact … ; `data_url`: where the file is."""

    file_type: str = "file"
    data_url: str | None = None
    extension: str | None = None
    fallback_title: str | None = None
    coordinates_lat: float | None = None
    coordinates_long: float | None = None


class Person(_Shape):
    """A contact, a user (an agent) or a bot; of a contact `phone_number` has its +."""

    id: Id | None = None
    name: Text = None
    type: Text = None
    phone_number: Text = None
    identifier: Text = None


class _Meta(_Shape):
    sender: Annotated[Person | None, BeforeValidator(_object)] = None
    assignee: Annotated[Person | None, BeforeValidator(_object)] = None
    assignee_type: str | None = None


class _ContactInbox(_Shape):
    source_id: Text = None


class Conversation(_Shape):
    """`id` within its account; `status`: open, resolved, pending or snoozed."""

    id: Id
    inbox_id: Id | None = None
    status: Text = None
    channel: Text = None
    can_reply: bool | None = None
    meta: Annotated[_Meta, BeforeValidator(lambda value: _object(value) or {})] = _Meta()
    contact_inbox: Annotated[_ContactInbox | None, BeforeValidator(_object)] = None
    updated_at: Instant = None
    timestamp: Instant = None
    last_activity_at: Instant = None

    @property
    def assignee_id(self) -> int | None:
        """The agent who has it; a bot is none."""
        assignee = self.meta.assignee
        bot = self.meta.assignee_type == "AgentBot" or (assignee and assignee.type == "agent_bot")
        return None if assignee is None or bot else assignee.id

    @property
    def knows_assignee(self) -> bool:
        """Whether the document tells of assignees at all; the shortest ones do not."""
        return "assignee" in self.meta.model_fields_set

    @property
    def source_id(self) -> str | None:
        return self.contact_inbox.source_id if self.contact_inbox else None

    @property
    def told_at(self) -> datetime | None:
        return self.updated_at or self.last_activity_at or self.timestamp


class _Id(_Shape):
    id: Id | None = None


class Message(_Shape):
    """A message, whoever wrote it."""

    id: Id
    message_type: Annotated[MessageKind, BeforeValidator(_kind)]
    private: bool = False
    content: Text = None
    content_type: Text = None
    content_attributes: Annotated[
        dict[str, Any], BeforeValidator(lambda value: _object(value) or {})
    ] = {}
    attachments: Annotated[tuple[Attachment, ...], BeforeValidator(_objects)] = ()
    sender: Annotated[Person | None, BeforeValidator(_object)] = None
    created_at: Instant = None

    @property
    def marker(self) -> str | None:
        """Ours: which row of the outbox it is; None for another's message."""
        found = self.content_attributes.get(MARKER)
        return found if isinstance(found, str) else None

    @property
    def of_an_agent(self) -> bool:
        """Whether a person wrote it to the customer, here."""
        person = self.sender is None or self.sender.type in {None, "user"}
        automated = "automation_rule_id" in self.content_attributes
        ours = self.marker is not None
        return (
            self.message_type == "outgoing" and not (self.private or automated or ours) and person
        )


@dataclass(frozen=True, slots=True)
class MessageCreated:
    """`account_id` and `inbox_id` are None when the document does not tell."""

    account_id: int | None
    inbox_id: int | None
    message: Message
    conversation: Conversation
    raw: dict[str, Any]

    @property
    def contact(self) -> Person | None:
        """The customer."""
        if self.message.message_type == "incoming" and self.message.sender is not None:
            return self.message.sender
        return self.conversation.meta.sender


@dataclass(frozen=True, slots=True)
class ConversationChanged:
    """It was made, assigned, resolved, opened …: the document tells how it is now."""

    account_id: int | None
    inbox_id: int | None
    conversation: Conversation
    raw: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Other:
    """An event without an effect here."""

    event: str
    raw: dict[str, Any]


Event: TypeAlias = MessageCreated | ConversationChanged | Other

_CHANGES: Final = frozenset(
    {"conversation_created", "conversation_updated", "conversation_status_changed"}
)


def parse(body: bytes) -> Event:
    """Read a webhook. Raises Malformed."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise Malformed("the body is no JSON") from None
    if not isinstance(document, dict):
        raise Malformed("the body is no JSON object")
    return read(_storable(document) if b"\\u0000" in body else document)


def read(document: dict[str, Any]) -> Event:
    """Read a webhook's document; one without an `event` is of a new message. Raises Malformed."""
    event = document.get("event", "message_created")
    try:
        if event == "message_created":
            conversation = Conversation.model_validate(document.get("conversation"))
            return MessageCreated(
                _id_of(document, "account"),
                _id_of(document, "inbox") or conversation.inbox_id,
                Message.model_validate(document),
                conversation,
                document,
            )
        if event in _CHANGES:
            changed = Conversation.model_validate(document)
            return ConversationChanged(
                _id_of(document, "account"), changed.inbox_id, changed, document
            )
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        path = ".".join(str(step) for step in first["loc"]) or "conversation"
        raise Malformed(f"{path} is missing or wrong") from None
    return Other(str(event)[:64], document)


def as_created(
    message: dict[str, Any], conversation: dict[str, Any], *, account_id: int, inbox_id: int | None
) -> dict[str, Any]:
    """Make the document of a webhook from what the API lists: a message, and its conversation."""
    return {
        **message,
        "event": "message_created",
        "account": {"id": account_id},
        "inbox": {"id": inbox_id},
        "conversation": _without_messages(conversation),
    }


def as_changed(
    conversation: dict[str, Any], *, account_id: int, inbox_id: int | None
) -> dict[str, Any]:
    """The same, of a conversation."""
    return {
        **_without_messages(conversation),
        "event": "conversation_updated",
        "account": {"id": account_id},
        "inbox_id": conversation.get("inbox_id") or inbox_id,
    }


def _without_messages(conversation: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in conversation.items() if key != "messages"}


def _storable(value: Any) -> Any:
    """Without the one character that no database stores."""
    if isinstance(value, str):
        return value.replace("\x00", "\ufffd")
    if isinstance(value, dict):
        return {_storable(key): _storable(part) for key, part in value.items()}
    return [_storable(part) for part in value] if isinstance(value, list) else value


def _id_of(document: dict[str, Any], key: str) -> int | None:
    found = _Id.model_validate(_object(document.get(key)) or {}).id
    if found is None and type(flat := document.get(f"{key}_id")) is int:
        return flat
    return found
