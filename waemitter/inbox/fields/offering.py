"""What a webhook's field tells, as routes are offered it: a turn of its own in the conversation it concerns. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import orjson

from waemitter.whatsapp.webhooks import FieldChange, Status

CALLS: Final = "calls"
MISSED: Final = "missed"
"""A user called and nobody took it: Meta's `terminate` of a call that was not picked up (Calling API, terminate webhook)."""

NEVER: Final = frozenset({"messages"})
"""Fields that are no change: what customers write has its own way."""


class Offer(NamedTuple):
    """One turn; the order is that of offer_changes(). Whom it concerns: a person, a group, or the account alone.

    `key`: by which it is offered once, None for what is known to be new. `payload`: JSON text of what a handler gets.
    """

    number: str | None
    account: str | None
    key: str | None
    field: str
    wa_id: str | None
    user_id: str | None
    group_id: str | None
    name: str | None
    at: float | None
    payload: str


def offers_of(change: FieldChange, digest: str) -> list[Offer]:
    """The turns of a change: one for each call, one for any other field. `digest`: names the change."""
    value = change.value if isinstance(change.value, dict) else {}
    calls = _objects(value.get(CALLS)) if change.field == CALLS else []
    if calls:
        return [_of_call(change, value, call) for call in calls]
    at = change.time.timestamp() if change.time else None
    person = _person(value)
    group = next((each for each in _objects(value.get("groups"))), {})
    document = _document(digest, change.field, _word(value.get("event")), at, change.value)
    return [
        Offer(
            change.phone_number_id,
            change.entry_id,
            None,
            change.field,
            *person,
            None if any(person[:2]) else _text(group.get("group_id")),
            _name(value, person[0], person[1]),
            at,
            _json({**document, "account_id": change.entry_id}),
        )
    ]


def offer_of_status(status: Status) -> Offer | None:
    """What becomes of a call that we made: RINGING, ACCEPTED or REJECTED. None for any other status."""
    if status.kind != "call":
        return None
    at = status.timestamp.timestamp() if status.timestamp else None
    word = status.status.lower()
    key = f"{status.wamid}:{word}"
    document = _document(key, CALLS, word, at, status.raw)
    recipient = status.recipient_id
    wa_id = recipient if recipient and recipient.isdigit() else None
    user_id = None if wa_id else recipient
    return Offer(
        status.phone_number_id,
        None,
        key,
        CALLS,
        wa_id,
        user_id,
        None,
        None,
        at,
        _json(document),
    )


def _of_call(change: FieldChange, value: Mapping[str, Any], call: Mapping[str, Any]) -> Offer:
    ours = _word(call.get("direction")) == "business_initiated"
    side = "to" if ours else "from"
    wa_id, user_id = _text(call.get(side)), _text(call.get(f"{side}_user_id"))
    if wa_id is not None and not wa_id.isdigit():
        wa_id, user_id = None, user_id or wa_id
    contact = _contact(value, wa_id, user_id)
    event = MISSED if not ours and _missed(call) else _word(call.get("event"))
    key = f"{_text(call.get('id'))}:{event}"
    at = _seconds(call.get("timestamp"))
    return Offer(
        change.phone_number_id,
        change.entry_id,
        key,
        CALLS,
        wa_id or _text(contact.get("wa_id")),
        user_id or _text(contact.get("user_id")),
        None,
        _name(value, wa_id, user_id),
        at,
        _json(_document(key, CALLS, event, at, call)),
    )


def _missed(call: Mapping[str, Any]) -> bool:
    """The duration is told of calls alone that were picked up."""
    return _word(call.get("event")) == "terminate" and not call.get("duration")


def _document(
    key: str, field: str, event: str | None, at: float | None, value: Any
) -> dict[str, Any]:
    """Like one of Meta's message objects, so that a turn holds nothing else."""
    timestamp = None if at is None else str(int(at))
    return {
        "id": key,
        "type": field,
        "field": field,
        "event": event,
        "timestamp": timestamp,
        "value": value,
    }


def _person(value: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """The one person that a value speaks of; of several, none."""
    for key in ("contacts", "user_preferences"):
        found = _objects(value.get(key))
        if len(found) == 1:
            return _text(found[0].get("wa_id")), _text(found[0].get("user_id"))
    return None, None


def _contact(value: Mapping[str, Any], wa_id: str | None, user_id: str | None) -> Mapping[str, Any]:
    """The entry of `contacts[]` about that person; the only one when nobody is named."""
    contacts = list(_objects(value.get("contacts")))
    for each in contacts:
        if (wa_id and each.get("wa_id") == wa_id) or (user_id and each.get("user_id") == user_id):
            return each
    alone = len(contacts) == 1 and not wa_id and not user_id
    return contacts[0] if alone else {}


def _name(value: Mapping[str, Any], wa_id: str | None, user_id: str | None) -> str | None:
    profile = _contact(value, wa_id, user_id).get("profile")
    return _text(profile.get("name")) if isinstance(profile, dict) else None


def _objects(value: Any) -> list[dict[str, Any]]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _text(value: Any) -> str | None:
    if type(value) is int:
        return str(value)
    return value if isinstance(value, str) and value else None


def _word(value: Any) -> str | None:
    text = _text(value)
    return text.strip().lower() or None if text else None


def _seconds(value: Any) -> float | None:
    try:
        return float(int(value))
    except (ValueError, TypeError, OverflowError):
        return None


def _json(document: dict[str, Any]) -> str:
    return orjson.dumps(document).decode()
