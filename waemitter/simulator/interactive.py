"""Interactive messages: buttons, lists, flows and the rest, with Meta's limits."""

from __future__ import annotations

from typing import Any, Final

from waemitter.simulator.shapes import (
    Check,
    anything,
    array,
    bad_value,
    choice,
    inside,
    missing,
    one_of,
    open_record,
    record,
    string,
    web_address,
)

MEDIA: Final = record({}, {"id": string(), "link": web_address, "provider": anything})
DOCUMENT: Final = record(
    {}, {"id": string(), "link": web_address, "provider": anything, "filename": string(240)}
)

_TEXT_HEADER = record({"type": anything, "text": string(60, label="Header text")})
_HEADER = choice(
    "type",
    {
        "text": _TEXT_HEADER,
        "image": record({"type": anything, "image": MEDIA}),
        "video": record({"type": anything, "video": MEDIA}),
        "document": record({"type": anything, "document": DOCUMENT}),
    },
)
_FOOTER = record({"text": string(60, label="Footer text")})
_MAX_ROWS = 10
_MAX_PRODUCTS = 30
_MAX_CARD_BREAKS = 2


def _body(most: int) -> Check:
    return record({"text": string(most, label="Body text")})


def _message(
    action: Check,
    *,
    body: int = 1024,
    header: Check = _HEADER,
    required: tuple[str, ...] = ("body",),
) -> Check:
    parts: dict[str, Check] = {"header": header, "body": _body(body), "footer": _FOOTER}
    needed: dict[str, Check] = {"type": anything, "action": action}
    needed |= {name: parts.pop(name) for name in required}
    return record(needed, parts)


def _named_action(name: str, parameters: Check, *, optional: bool = False) -> Check:
    fields: dict[str, Check] = {"name": one_of(name)}
    if optional:
        return record(fields, {"parameters": parameters})
    return record({**fields, "parameters": parameters})


def _unique(path: str, values: list[Any], what: str) -> None:
    if len(set(values)) != len(values):
        raise bad_value(f"{path}: {what} must be unique.")


_REPLY = record(
    {
        "id": string(256, label="Button id", trimmed=True),
        "title": string(20, label="Button title", trimmed=True),
    }
)
_BUTTONS = array(record({"type": one_of("reply"), "reply": _REPLY}), most=3)


def _buttons(path: str, value: Any) -> None:
    record({"buttons": _BUTTONS})(path, value)
    replies = [button["reply"] for button in value["buttons"]]
    _unique(inside(path, "buttons"), [reply["id"] for reply in replies], "ids")
    _unique(inside(path, "buttons"), [reply["title"] for reply in replies], "titles")


_ROW = record(
    {
        "id": string(200, label="Row id", trimmed=True),
        "title": string(24, label="Row title", trimmed=True),
    },
    {"description": string(72, label="Row description")},
)
_SECTIONS = array(
    record({"rows": array(_ROW, most=_MAX_ROWS)}, {"title": string(24, label="Section title")}),
    most=10,
)
_LIST = record({"button": string(20, label="Button label", trimmed=True), "sections": _SECTIONS})


def _list(path: str, value: Any) -> None:
    _LIST(path, value)
    sections = value["sections"]
    rows = [row for section in sections for row in section["rows"]]
    if len(rows) > _MAX_ROWS:
        raise bad_value(f"Total row count exceed max allowed count: {_MAX_ROWS}")
    _unique(inside(path, "sections"), [row["id"] for row in rows], "row ids")
    for index, section in enumerate(sections):
        if len(sections) > 1 and "title" not in section:
            raise missing(inside(inside(inside(path, "sections"), index), "title"))


_FLOW = record(
    {"flow_message_version": one_of("3"), "flow_cta": string(30, label="Flow CTA", trimmed=True)},
    {
        "flow_id": string(),
        "flow_name": string(),
        "flow_token": string(),
        "mode": one_of("draft", "published"),
        "flow_action": one_of("navigate", "data_exchange"),
        "flow_action_payload": open_record,
    },
)


def _flow(path: str, value: Any) -> None:
    _FLOW(path, value)
    if "flow_id" not in value and "flow_name" not in value:
        raise missing(inside(path, "flow_id"))
    if "flow_id" in value and "flow_name" in value:
        raise bad_value(f"{path}: give flow_id or flow_name, not both.")


_PRODUCT_ITEMS = array(record({"product_retailer_id": string()}), most=_MAX_PRODUCTS)
_PRODUCT_SECTIONS = array(
    record({"product_items": _PRODUCT_ITEMS}, {"title": string(24, label="Section title")}), most=10
)
_PRODUCTS = record({"catalog_id": string(), "sections": _PRODUCT_SECTIONS}, {"name": string()})


def _products(path: str, value: Any) -> None:
    _PRODUCTS(path, value)
    if sum(len(section["product_items"]) for section in value["sections"]) > _MAX_PRODUCTS:
        raise bad_value(f"Total product count exceed max allowed count: {_MAX_PRODUCTS}")


_CTA = record({"display_text": string(20, label="Display text", trimmed=True), "url": web_address})
_CARD = record(
    {"card_index": anything, "action": open_record},
    {"type": string(), "header": _HEADER, "body": _body(160)},
)


def _cards(path: str, value: Any) -> None:
    record({"cards": array(_CARD, least=2, most=10)})(path, value)
    cards = value["cards"]
    if len({frozenset(card) for card in cards}) > 1:
        raise bad_value(f"{path}: all cards must have the same components.")
    for index, card in enumerate(cards):
        if card.get("body", {}).get("text", "").count("\n") > _MAX_CARD_BREAKS:
            raise bad_value(f"{path}['cards'][{index}]: at most {_MAX_CARD_BREAKS} line breaks.")


_THUMBNAIL = record({}, {"thumbnail_product_retailer_id": string()})
_PAYMENT = record({"name": string(), "parameters": open_record})

INTERACTIVE: Final = choice(
    "type",
    {
        "button": _message(_buttons),
        "list": _message(_list, body=4096, header=_TEXT_HEADER),
        "cta_url": _message(_named_action("cta_url", _CTA)),
        "flow": _message(_named_action("flow", _flow)),
        "product": _message(
            record({"catalog_id": string(), "product_retailer_id": string()}), required=()
        ),
        "product_list": _message(_products, header=_TEXT_HEADER, required=("header", "body")),
        "catalog_message": _message(_named_action("catalog_message", _THUMBNAIL, optional=True)),
        "location_request_message": _message(record({"name": one_of("send_location")})),
        "address_message": _message(_named_action("address_message", open_record)),
        "carousel": _message(_cards),
        "call_permission_request": _message(
            record({"name": one_of("call_permission_request")}), required=()
        ),
        "voice_call": _message(_named_action("voice_call", open_record, optional=True)),
        "request_contact_info": _message(record({"name": one_of("request_contact_info")})),
        "order_details": _message(_PAYMENT),
        "order_status": _message(_PAYMENT),
    },
)
"""Any interactive object; limits from Meta's message type reference (2026)."""
