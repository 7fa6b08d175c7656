"""Which message bodies Meta would take: a pure function from a body to its error."""

from __future__ import annotations

import re
from typing import Any, Final

from waemitter.simulator.errors import CATALOGUE, GraphError
from waemitter.simulator.interactive import INTERACTIVE
from waemitter.simulator.recipients import Recipient, recipient_of
from waemitter.simulator.shapes import (
    Check,
    Refusal,
    anything,
    array,
    bad_parameter,
    bad_value,
    boolean,
    inside,
    long_text,
    missing,
    number,
    one_of,
    open_record,
    record,
    string,
    web_address,
)
from waemitter.simulator.template_shapes import TEMPLATE

_OPAQUE_MOST = 512
_EARTH = {"latitude": number(-90, 90), "longitude": number(-180, 180)}
_PLACE: dict[str, Check] = {"name": string(1000, least=0), "address": string(1000, least=0)}


def _media(**optional: Check) -> Check:
    shape = record({}, {"id": string(), "link": web_address, "provider": anything, **optional})

    def check(path: str, value: Any) -> None:
        shape(path, value)
        if "id" not in value and "link" not in value:
            raise missing(inside(path, "id"))
        if "id" in value and "link" in value:
            raise bad_parameter(f"Param {path} must have either id or link, not both.")

    return check


_NAME_PARTS = ("first_name", "last_name", "middle_name", "suffix", "prefix")
_CARD: Final = record(
    {"name": record({"formatted_name": string()}, dict.fromkeys(_NAME_PARTS, string(least=0)))},
    {
        "phones": array(record({}, dict.fromkeys(("phone", "type", "wa_id"), string())), least=0),
        "emails": array(record({}, dict.fromkeys(("email", "type"), string())), least=0),
        "urls": array(record({}, dict.fromkeys(("url", "type"), string())), least=0),
        "addresses": array(open_record, least=0),
        "org": record({}, dict.fromkeys(("company", "department", "title"), string(least=0))),
        "birthday": anything,
    },
)
_BIRTHDAY = re.compile(r"\d{4}-\d{2}-\d{2}")


def _contacts(path: str, value: Any) -> None:
    array(_CARD, most=257)(path, value)
    for index, card in enumerate(value):
        birthday = card.get("birthday")
        if birthday is not None and not _BIRTHDAY.fullmatch(str(birthday)):
            raise bad_value(f"{path}[{index}]['birthday'] must be YYYY-MM-DD.")


_CAPTION: dict[str, Check] = {"caption": string(1024, least=0, label="Caption")}

TYPES: Final[dict[str, Check]] = {
    "text": record({"body": long_text(4096)}, {"preview_url": boolean}),
    "image": _media(**_CAPTION),
    "video": _media(**_CAPTION),
    "audio": _media(voice=boolean),
    "document": _media(**_CAPTION, filename=string(240)),
    "sticker": _media(),
    "location": record(_EARTH, _PLACE),
    "contacts": _contacts,
    "reaction": record({"message_id": string(), "emoji": string(64, least=0)}),
    "template": TEMPLATE,
    "interactive": INTERACTIVE,
    "pin": record(
        {"type": one_of("pin", "unpin"), "message_id": string()},
        {"expiration_days": number(1, 30)},
    ),
}
"""The object of each message type; limits from Meta's message type reference (2026)."""

_ENVELOPE: Final[dict[str, Check]] = {
    "messaging_product": one_of("whatsapp"),
    "recipient_type": one_of("individual", "group"),
    "to": anything,
    "recipient": anything,
    "type": one_of(*TYPES),
    "context": record({"message_id": string()}),
    "biz_opaque_callback_data": string(_OPAQUE_MOST, least=0),
    "recipient_identity_key_hash": string(),
}
_MARKETING: Final[dict[str, Check]] = {
    "product_policy": one_of("CLOUD_API_FALLBACK", "STRICT"),
    "message_activity_sharing": boolean,
}
_READ: Final = record(
    {"messaging_product": one_of("whatsapp"), "status": one_of("read"), "message_id": string()},
    {"typing_indicator": record({"type": one_of("text")})},
)


def validate(body: object, *, marketing: bool = False) -> GraphError | None:
    """Return the error that Meta answers to a message body, or None when it is accepted.

    `marketing` is for the body of `/marketing_messages`. Errors are 100 for a wrong shape and
    unknown fields, 131008 for missing ones, 131009 for bad values, 131051 for an unknown type.
    """
    try:
        check_message(body, marketing=marketing)
    except Refusal as refusal:
        return refusal.error
    return None


def check_message(body: object, *, marketing: bool = False) -> tuple[Recipient, str]:
    """Return the recipient and the type of a good message body; raises `Refusal` for a bad one."""
    fields = _checked_product(body)
    kind = fields.get("type", "text")
    if not isinstance(kind, str) or kind not in TYPES:
        raise Refusal(CATALOGUE[131051].saying(f"Unsupported message type: {kind}"))
    for key, value in fields.items():
        check = _ENVELOPE.get(key) or (_MARKETING.get(key) if marketing else None)
        if check is not None:
            check(key, value)
        elif key != kind:
            raise bad_parameter(f'Unexpected key "{key}" on the message.')
    if marketing and kind != "template":
        raise Refusal(CATALOGUE[131055])
    recipient = recipient_of(fields)
    if fields.get(kind) is None:
        raise missing(kind)
    if kind == "pin" and recipient.kind != "group":
        raise bad_parameter("Messages can be pinned in groups only.")
    if kind == "reaction" and "context" in fields:
        raise bad_parameter("A reaction cannot be a contextual reply.")
    TYPES[kind](kind, fields[kind])
    return recipient, kind


def check_receipt(body: object) -> bool:
    """Tell whether a read receipt also shows a typing indicator; raises `Refusal` for a bad one."""
    fields = _checked_product(body)
    _READ("", fields)
    return "typing_indicator" in fields


def _checked_product(body: object) -> dict[str, Any]:
    if not isinstance(body, dict):
        raise bad_parameter("The request body must be a JSON object.")
    if body.get("messaging_product") is None:
        required = "The parameter messaging_product is required."
        raise Refusal(GraphError(400, 100, required))
    return body
