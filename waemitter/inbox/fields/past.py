"""What was written before a number came here: Meta tells it once, by the field `history`, in chunks. Pure.

After a business that goes on using its phone has agreed, Meta sends up to six months of messages, thousands in one webhook
(Cloud API, "Onboarding WhatsApp Business app users", the history webhook). Files come later and one by one, as messages under
the same field, with the ids that stood in the chunk as `media_placeholder`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

import orjson

from waemitter.whatsapp.webhooks import LONGEST_ID, FieldChange, Message

HISTORY: Final = "history"


class Past(NamedTuple):
    """A message of the past; the order is that of import_history(). With whom it was: a phone number, or a user id."""

    wamid: str
    wa_id: str | None
    user_id: str | None
    type: str
    at: datetime | None
    from_us: bool
    payload: str


def past_of(value: Mapping[str, Any]) -> list[Past]:
    """Every message of a chunk that says with whom it was; the rest stays in the journal."""
    found: list[Past] = []
    for chunk in _objects(value.get(HISTORY)):
        for thread in _objects(chunk.get("threads")):
            found += filter(
                None, (_past(thread, each) for each in _objects(thread.get("messages")))
            )
    return found


def progress_of(value: Mapping[str, Any]) -> str | None:
    """How far Meta has come: `phase 0, 55 %`."""
    for chunk in _objects(value.get(HISTORY)):
        told = chunk.get("metadata")
        if isinstance(told, dict) and type(told.get("progress")) is int:
            return f"phase {told.get('phase')}, {told['progress']} %"
    return None


def as_history(message: Message) -> FieldChange:
    """A message that came by itself under the field `history`, as a chunk brings it."""
    to = message.raw.get("to")
    other = to if isinstance(to, str) and to else message.sender or message.user_id
    thread = {"id": other, "messages": [message.raw]}
    return FieldChange(
        HISTORY, None, None, message.phone_number_id, {HISTORY: [{"threads": [thread]}]}
    )


def _past(thread: Mapping[str, Any], raw: dict[str, Any]) -> Past | None:
    other, wamid, sender = _id(thread.get("id")), _id(raw.get("id")), _id(raw.get("from"))
    if other is None or wamid is None:
        return None
    wa_id = other if other.isascii() and other.isdigit() else None
    return Past(
        wamid,
        wa_id,
        None if wa_id else other,
        _id(raw.get("type")) or "unknown",
        _instant(raw.get("timestamp")),
        sender is not None and sender != other,
        orjson.dumps(raw).decode(),
    )


def _objects(value: Any) -> Iterator[dict[str, Any]]:
    return (
        (each for each in value if isinstance(each, dict)) if isinstance(value, list) else iter(())
    )


def _id(value: Any) -> str | None:
    text = str(value) if type(value) is int else value
    return text if isinstance(text, str) and 0 < len(text) <= LONGEST_ID else None


def _instant(value: Any) -> datetime | None:
    try:
        return datetime.fromtimestamp(int(value), UTC)
    except (ValueError, TypeError, OverflowError, OSError):
        return None
