"""Template messages: what their components and parameters may look like."""

from __future__ import annotations

import re
from typing import Any, Final

from waemitter.simulator.errors import CATALOGUE
from waemitter.simulator.interactive import DOCUMENT, MEDIA
from waemitter.simulator.shapes import (
    Check,
    Refusal,
    anything,
    array,
    choice,
    inside,
    missing,
    number,
    one_of,
    open_record,
    record,
    string,
)

_FORBIDDEN_IN_PARAMETERS = re.compile(r"[\n\t]| {5,}")
_NAMED: dict[str, Check] = {"parameter_name": string(20, label="Parameter name")}


def _parameter_text(path: str, value: Any) -> None:
    string()(path, value)
    if _FORBIDDEN_IN_PARAMETERS.search(value):
        reason = "Param text cannot have new-line/tab characters or more than 4 consecutive spaces"
        raise Refusal(CATALOGUE[132018].saying(reason))


def _parameter(name: str, value: Check, **more: Check) -> Check:
    return record({"type": anything, name: value, **more}, _NAMED)


_CURRENCY = record(
    {"fallback_value": string(), "code": string(3, least=3), "amount_1000": number(-1e15, 1e15)}
)
_DATE_TIME = record(
    {"fallback_value": string()},
    dict.fromkeys(
        ("day_of_week", "year", "month", "day_of_month", "hour", "minute", "calendar"), anything
    ),
)
_ANY_PARAMETER: dict[str, Check] = {
    "text": _parameter("text", _parameter_text),
    "currency": _parameter("currency", _CURRENCY),
    "date_time": _parameter("date_time", _DATE_TIME),
    "image": _parameter("image", MEDIA),
    "video": _parameter("video", MEDIA),
    "gif": _parameter("gif", MEDIA),
    "document": _parameter("document", DOCUMENT),
    "location": _parameter("location", open_record),
    "product": _parameter("product", open_record),
    "payload": _parameter("payload", string(least=0)),
    "coupon_code": _parameter("coupon_code", string()),
    "action": _parameter("action", open_record),
    "limited_time_offer": _parameter("limited_time_offer", open_record),
    "order_status": _parameter("order_status", open_record),
    "ttl_minutes": _parameter("ttl_minutes", number(1, 43_200)),
}
_PARAMETERS = array(choice("type", _ANY_PARAMETER), least=0)
_BUTTON_KINDS = (
    "quick_reply",
    "url",
    "phone_number",
    "catalog",
    "mpm",
    "spm",
    "copy_code",
    "flow",
    "voice_call",
    "order_details",
    "reminder",
)
_BUTTON = record(
    {"type": anything, "sub_type": anything, "index": number(0, 9)}, {"parameters": _PARAMETERS}
)


def _button(path: str, value: Any) -> None:
    _BUTTON(path, value)
    kind = value["sub_type"]
    one_of(*_BUTTON_KINDS)(inside(path, "sub_type"), str(kind).lower())
    if str(kind).lower() == "url" and not value.get("parameters"):
        raise missing(inside(path, "parameters"))


_PLAIN = record({"type": anything}, {"parameters": _PARAMETERS})
_COMPONENTS: dict[str, Check] = {
    "header": _PLAIN,
    "body": _PLAIN,
    "footer": _PLAIN,
    "button": _button,
    "limited_time_offer": _PLAIN,
    "order_status": _PLAIN,
    "call_permission_request": _PLAIN,
}
_CARD = record(
    {"card_index": number(0, 9), "components": array(choice("type", _COMPONENTS), least=0)}
)
_COMPONENTS["carousel"] = record({"type": anything, "cards": array(_CARD, most=10)})

TEMPLATE: Final = record(
    {
        "name": string(512),
        "language": record({"code": string(15)}, {"policy": one_of("deterministic")}),
    },
    {"components": array(choice("type", _COMPONENTS), least=0), "namespace": string()},
)
"""A template message's object; limits from Meta's template reference (2026)."""
