"""One POST from Meta becomes a list of what it says.

A body holds up to a thousand updates, spread over entries, their changes, and in each change
messages, statuses and errors, for several numbers and accounts at once. Every one of them is
walked: reading only the first is how updates get lost. Reading is lenient. What is unknown is
handed on under its own name, what is broken becomes `Malformed` and harms none of its neighbours.
Each item keeps its JSON as `raw`, unchanged but for what no database stores: NUL and half surrogate
pairs become U+FFFD, numbers beyond a double null.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple, TypeAlias

import orjson

from waemitter.errors import WaemitterError
from waemitter.whatsapp.numbers import Number, numbers_of

PRODUCT: Final = "whatsapp_business_account"
"""The `object` of every webhook about WhatsApp; an app's other products share its endpoint."""

# Keys of a value whose contents become items of their own, or accompany those.
_WALKED: Final = frozenset(
    {"messaging_product", "metadata", "contacts", "messages", "statuses", "errors"}
)


LONGEST_ID: Final = 1024
"""Characters; Meta's have less than 200. What is longer is no id, and would not fit an index."""


class NotJson(WaemitterError):
    """The bytes of a webhook are no JSON object, so nothing can be said about them."""


class Status(NamedTuple):
    """What became of a message that was sent, or of a call or a payment (`kind`).

    `status` is Meta's word: `sent`, `delivered`, `read`, `played`, `failed` and whatever comes
    next. They arrive in any order, more than once, and for messages of other apps too.
    `timestamp` has a resolution of one second. `participant` names the member of a group, where
    one wamid has the same status once for each. `echo` is the `biz_opaque_callback_data` of the
    request.
    """

    phone_number_id: str | None
    wamid: str
    status: str
    timestamp: datetime | None
    recipient_id: str | None
    participant: str | None
    kind: str | None
    echo: str | None
    pricing_category: str | None
    billable: bool | None
    errors: list[dict[str, Any]]
    raw: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Message:
    """A message from a user.

    `field` is `messages` for a live one; `history` shares its wamids but is no new message.
    `sender` is the user's phone in digits, absent for people who go by a username; `user_id` is
    Meta's business-scoped id; in a group, whose `group_id` stands beside, they are the member's.
    `contact` is the entry of `contacts[]` about the same person, found by those ids since the
    order of the two lists does not correspond.
    """

    phone_number_id: str | None
    field: str
    wamid: str
    sender: str | None
    user_id: str | None
    group_id: str | None
    type: str
    timestamp: datetime | None
    contact: dict[str, Any] | None
    raw: dict[str, Any]


@dataclass(frozen=True, slots=True)
class ErrorNotice:
    """`errors[]` that stand directly in a value: about the number or account, not one message."""

    phone_number_id: str | None
    field: str
    errors: list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class FieldChange:
    """A change of any other kind: templates, quality, account, calls, preferences, the unknown.

    `entry_id` is the account (WABA) for WhatsApp. `time` is there for account-level fields only.
    `product` is the body's `object`, by which other products' webhooks are told apart; Meta's own
    examples leave it out now and then.
    """

    field: str
    entry_id: str | None
    time: datetime | None
    phone_number_id: str | None
    value: Any
    product: str | None = PRODUCT


@dataclass(frozen=True, slots=True)
class Malformed:
    """A part that could not be read, with the reason in words."""

    reason: str
    raw: Any


Item: TypeAlias = Status | Message | ErrorNotice | FieldChange | Malformed


def parse(body: bytes, numbers: set[Number] | None = None) -> list[Item]:
    """Return every item of the body in the order in which it stands there; add the numbers it came for.

    Raises NotJson if the bytes are no JSON object, and nothing else.
    """
    document = _load(body)
    if not isinstance(document, dict):
        raise NotJson("the webhook's body is no JSON object")
    if numbers is not None:
        numbers |= numbers_of(document)
    product = _text(document.get("object"))
    items_of = _foreign_items if product not in (PRODUCT, None) else _entry_items
    entries = document.get("entry")
    if not isinstance(entries, list):
        return [Malformed("entry is no array", document)]
    items: list[Item] = []
    for entry in entries:
        if isinstance(entry, dict):
            items += items_of(entry, product)
        else:
            items.append(Malformed("an entry is no object", entry))
    return items


class Succession(NamedTuple):
    """The phone number and the user id by which a customer goes from now on; None: as before."""

    wa_id: str | None
    user_id: str | None


def succession(message: Message) -> Succession | None:
    """Tell what a `system` message says of a changed number or user id; None for any other.

    `from` of such a message is still the old number; it has no entry in `contacts[]`.
    """
    system = message.raw.get("system")
    if message.type != "system" or not isinstance(system, dict):
        return None
    wa_id, user_id = _phone(system.get("wa_id")), _id(system.get("user_id"))
    if wa_id == message.sender:
        wa_id = None
    if user_id == message.user_id:
        user_id = None
    return Succession(wa_id, user_id) if wa_id or user_id else None


def tapped(message: Message) -> bool:
    """Whether the user tapped a button: of a template, or of an interactive message."""
    interactive = message.raw.get("interactive")
    return message.type == "button" or (
        isinstance(interactive, dict)
        and not {"button_reply", "list_reply", "nfm_reply"}.isdisjoint(interactive)
    )


def document_of(item: Item) -> dict[str, Any]:
    """Return a webhook that holds this item alone: to be kept, and read by `parse` again."""
    if isinstance(item, Malformed):
        return {"entry": [], "malformed": item.raw}
    if isinstance(item, FieldChange):
        change = {"field": item.field, "value": item.value}
        time = int(item.time.timestamp()) if item.time else None
        return {
            "object": item.product,
            "entry": [{"id": item.entry_id, "time": time, "changes": [change]}],
        }
    value: dict[str, Any] = {"metadata": {"phone_number_id": item.phone_number_id}}
    field = "messages"
    if isinstance(item, Status):
        value["statuses"] = [item.raw]
    elif isinstance(item, Message):
        field = item.field
        value["messages"] = [item.raw]
        value["contacts"] = [item.contact] if item.contact else []
    else:
        field = item.field
        value["errors"] = item.errors
    return {"object": PRODUCT, "entry": [{"changes": [{"field": field, "value": value}]}]}


def _load(body: bytes) -> Any:
    try:
        try:
            document = orjson.loads(body)
        except orjson.JSONDecodeError:
            # It is strict about halves of surrogate pairs (a name that was cut in the middle of an
            # emoji) and about numbers that no double holds: neither may sink its neighbours.
            return _clean(json.loads(body.decode()))
        return _clean(document) if rb"\u0000" in body else document
    except (ValueError, RecursionError) as error:
        raise NotJson(f"the webhook's body is no JSON: {type(error).__name__}") from error


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        whole = value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        return whole.replace("\0", "\N{REPLACEMENT CHARACTER}")
    if isinstance(value, list):
        return [_clean(each) for each in value]
    if isinstance(value, dict):
        return {_clean(key): _clean(each) for key, each in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _foreign_items(entry: dict[str, Any], product: str | None) -> list[Item]:
    """Hand on what another product says without reading it: its `messages` are not WhatsApp's."""
    changes = entry.get("changes")
    changes = changes if isinstance(changes, list) else [entry]
    return [
        _field_change(change, change.get("value", change), entry, None, product)
        if isinstance(change, dict)
        else Malformed("a change is no object", change)
        for change in changes
    ]


def _entry_items(entry: dict[str, Any], product: str | None) -> list[Item]:
    changes = entry.get("changes")
    if not isinstance(changes, list):
        return [Malformed("changes is no array", entry)]
    items: list[Item] = []
    for change in changes:
        if isinstance(change, dict):
            items += _change_items(change, entry, product)
        else:
            items.append(Malformed("a change is no object", change))
    return items


def _change_items(change: dict[str, Any], entry: dict[str, Any], product: str | None) -> list[Item]:
    value = change.get("value")
    if not isinstance(value, dict):
        return [_field_change(change, value, entry, None, product)]
    metadata = value.get("metadata")
    number = _text(metadata.get("phone_number_id")) if isinstance(metadata, dict) else None
    items: list[Item] = []
    if (statuses := value.get("statuses")) is not None:
        items += _statuses(statuses, number)
    if (messages := value.get("messages")) is not None:
        items += _messages(messages, value, _field(change, entry) or "messages", number)
    if (errors := value.get("errors")) is not None:
        items.append(ErrorNotice(number, _field(change, entry), _objects(errors)))
    if not items or not value.keys() <= _WALKED:
        items.append(_field_change(change, value, entry, number, product))
    return items


def _statuses(statuses: Any, number: str | None) -> list[Item]:
    if not isinstance(statuses, list):
        return [Malformed("statuses is no array", statuses)]
    return [_status(raw, number) for raw in statuses]


def _status(raw: Any, number: str | None) -> Item:
    if not isinstance(raw, dict):
        return Malformed("a status is no object", raw)
    wamid, word = _id(raw.get("id")), _id(raw.get("status"))
    if not wamid or not word:
        return Malformed("a status without an id or without a word", raw)
    pricing = raw.get("pricing")
    category = billable = None
    if isinstance(pricing, dict):
        category = _text(pricing.get("category"))
        billable = given if isinstance(given := pricing.get("billable"), bool) else None
    return Status(
        number,
        wamid,
        word,
        _instant(raw.get("timestamp")),
        _text(raw.get("recipient_id")),
        # Meta's page about groups and its reference spell this key in two ways.
        _text(raw.get("recipient_participant_id") or raw.get("participant_recipient_id")),
        _text(raw.get("type")),
        _text(raw.get("biz_opaque_callback_data")),
        category,
        billable,
        _objects(raw.get("errors")),
        raw,
    )


def _messages(messages: Any, value: dict[str, Any], field: str, number: str | None) -> list[Item]:
    if not isinstance(messages, list):
        return [Malformed("messages is no array", messages)]
    contacts: dict[str, dict[str, Any]] = {}
    for contact in _objects(value.get("contacts")):
        for key in (contact.get("wa_id"), contact.get("user_id")):
            if isinstance(key, str):
                contacts[key] = contact
    return [_message(raw, contacts, field, number) for raw in messages]


def _message(raw: Any, contacts: dict[str, dict[str, Any]], field: str, number: str | None) -> Item:
    if not isinstance(raw, dict):
        return Malformed("a message is no object", raw)
    wamid = _id(raw.get("id"))
    if not wamid:
        return Malformed("a message without an id", raw)
    stated, user_id = _text(raw.get("from")), _id(raw.get("from_user_id"))
    contact = contacts.get(stated or "") or contacts.get(user_id or "")
    if contact is not None:
        user_id = user_id or _id(contact.get("user_id"))
    sender = _phone(stated)
    if sender is None:
        # A user id has been seen in the place of the phone.
        user_id = user_id or _id(stated)
    return Message(
        number,
        field,
        wamid,
        sender,
        user_id,
        _id(raw.get("group_id")),
        _text(raw.get("type")) or "unknown",
        _instant(raw.get("timestamp")),
        contact,
        raw,
    )


def _field_change(
    change: dict[str, Any],
    value: Any,
    entry: dict[str, Any],
    number: str | None,
    product: str | None,
) -> FieldChange:
    return FieldChange(
        _field(change, entry),
        _text(entry.get("id")),
        _instant(entry.get("time")),
        number,
        value,
        product,
    )


def _field(change: dict[str, Any], entry: dict[str, Any]) -> str:
    # Some of Meta's examples of partner events have the name beside the changes, not inside.
    return _text(change.get("field")) or _text(entry.get("field")) or ""


def _objects(value: Any) -> list[dict[str, Any]]:
    if not isinstance(value, list):
        return []
    return [each for each in value if isinstance(each, dict)]


def _text(value: Any) -> str | None:
    """Return ids and words as text; some arrive as numbers in one field and as text in another."""
    if value is None or isinstance(value, str):
        return value
    return str(value) if type(value) is int else None


def _id(value: Any) -> str | None:
    text = _text(value)
    return text if text and len(text) <= LONGEST_ID else None


def _phone(value: Any) -> str | None:
    """Return a phone number as its digits; None for what is none."""
    digits = (_text(value) or "").lstrip("+")
    return digits if digits.isascii() and digits.isdigit() and len(digits) <= LONGEST_ID else None


def _instant(value: Any) -> datetime | None:
    """Return seconds since 1970, as text or as a number, as an aware time in UTC."""
    try:
        return datetime.fromtimestamp(int(value), UTC)
    except (ValueError, TypeError, OverflowError, OSError):
        return None
