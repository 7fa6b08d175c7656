from __future__ import annotations

import copy
import re
from typing import Any

import pytest

from tests.simulator.test_validation import ACCEPTED
from waemitter.errors import PayloadError
from waemitter.whatsapp.payloads import check, problems

LINK = {"link": "https://example.com/a.jpg"}


def reply(number: int) -> dict[str, Any]:
    return {"type": "reply", "reply": {"id": f"b{number}", "title": f"Button {number}"}}


def row(number: int) -> dict[str, Any]:
    return {"id": f"r{number}", "title": f"Row {number}", "description": "d"}


def rows(title: str, *numbers: int) -> dict[str, Any]:
    return {"title": title, "rows": [row(number) for number in numbers]}


def products(title: str, count: int) -> dict[str, Any]:
    return {"title": title, "product_items": [{"product_retailer_id": "p"}] * count}


def card(index: int, *titles: str) -> dict[str, Any]:
    buttons = [{"type": "quick_reply", "quick_reply": {"id": t, "title": t}} for t in titles]
    return {
        "card_index": index,
        "header": {"type": "image", "image": LINK},
        "body": {"text": "A card"},
        "action": {"buttons": buttons},
    }


def interactive(kind: str, action: dict[str, Any], **more: Any) -> dict[str, Any]:
    around = {"header": {"type": "text", "text": "H"}, "footer": {"text": "F"}}
    content = {"type": kind, **around, "body": {"text": "B"}, "action": action, **more}
    return {"interactive": content}


def named(name: str, **parameters: Any) -> dict[str, Any]:
    return {"name": name, "parameters": parameters}


EXAMPLES: dict[str, dict[str, Any]] = {
    "text": {"text": {"body": "hi", "preview_url": False}},
    "image": {"image": {**LINK, "caption": "c"}},
    "video": {"video": {"id": "1", "caption": "c"}},
    "document": {"document": {"id": "1", "caption": "c", "filename": "a.pdf"}},
    "audio": {"audio": {"id": "1", "voice": True}},
    "sticker": {"sticker": LINK},
    "location": {"location": {"latitude": 52.5, "longitude": "13.4", "name": "Berlin"}},
    "contacts": {"contacts": [{"name": {"formatted_name": "Ada"}, "birthday": "1815-12-10"}]},
    "reaction": {"reaction": {"message_id": "wamid.A", "emoji": ""}},
    "pin": {
        "recipient_type": "group",
        "pin": {"type": "pin", "message_id": "wamid.A", "expiration_days": "7"},
    },
    "template": {
        "template": {
            "name": "order",
            "language": {"code": "en_US"},
            "components": [
                {
                    "type": "body",
                    "parameters": [{"type": "text", "text": "17", "parameter_name": "order"}],
                },
                {"type": "header", "parameters": [{"type": "image", "image": LINK}]},
                {
                    "type": "BUTTON",
                    "sub_type": "COPY_CODE",
                    "index": 0,
                    "parameters": [{"type": "coupon_code", "coupon_code": "25OFF"}],
                },
                {
                    "type": "button",
                    "sub_type": "voice_call",
                    "parameters": [{"type": "ttl_minutes", "ttl_minutes": 100}],
                },
                {"type": "carousel", "cards": [{"card_index": 0, "components": []}]},
            ],
        }
    },
    "interactive button": interactive("button", {"buttons": [reply(1), reply(2)]}),
    "interactive list": interactive(
        "list", {"button": "Open", "sections": [rows("A", 1, 2), rows("B", 3)]}
    ),
    "interactive cta_url": interactive(
        "cta_url", named("cta_url", display_text="Open", url="https://example.com")
    ),
    "interactive flow": interactive(
        "flow", named("flow", flow_message_version="3", flow_cta="Book", flow_id="1")
    ),
    "interactive product": interactive("product", {"catalog_id": "c", "product_retailer_id": "p"}),
    "interactive product_list": interactive(
        "product_list", {"catalog_id": "c", "sections": [products("A", 20), products("B", 10)]}
    ),
    "interactive catalog_message": interactive("catalog_message", {"name": "catalog_message"}),
    "interactive location_request_message": interactive(
        "location_request_message", {"name": "send_location"}
    ),
    "interactive address_message": interactive(
        "address_message", named("address_message", country="IN")
    ),
    "interactive voice_call": interactive(
        "voice_call", named("voice_call", display_text="Call", ttl_minutes=100, payload="p")
    ),
    "interactive call_permission_request": interactive(
        "call_permission_request", {"name": "call_permission_request"}
    ),
    "interactive request_contact_info": interactive(
        "request_contact_info", {"name": "request_contact_info"}
    ),
    "interactive carousel": interactive(
        "carousel", {"cards": [card(0, "Yes", "No"), card(1, "Yes", "No")]}
    ),
    "interactive order_status": interactive(
        "order_status", named("review_order", reference_id="17")
    ),
}


def type_of(example: str) -> str:
    return example.partition(" ")[0]


def found(example: str, payload: dict[str, Any]) -> list[str]:
    return [problem.field for problem in problems(type_of(example), payload)]


def changed(example: str, path: str, value: Any) -> dict[str, Any]:
    """Return an example with one field set, or taken out with `...`; the path goes into first items."""
    payload = copy.deepcopy(EXAMPLES[example])
    *steps, last = re.findall(r"[a-z_]+|\d+", path.replace("[]", "[0]"))
    place: Any = payload
    for step in steps:
        place = place[int(step) if step.isdigit() else step]
    if value is ...:
        del place[last]
    else:
        place[int(last) if last.isdigit() else last] = value
    return payload


@pytest.mark.parametrize("example", EXAMPLES)
def test_what_metas_documentation_shows_passes(example):
    assert problems(type_of(example), EXAMPLES[example]) == []


@pytest.mark.parametrize("body", ACCEPTED.values(), ids=ACCEPTED)
def test_what_the_simulated_platform_takes_passes(body):
    envelope = {"to", "recipient"}
    payload = {key: value for key, value in body.items() if key not in envelope}
    check(body.get("type", "text"), payload)


def with_unknown_keys(value: Any) -> Any:
    if isinstance(value, dict):
        known = {key: with_unknown_keys(member) for key, member in value.items()}
        return {**known, "key_of_next_month": {"a": [1]}}
    return [with_unknown_keys(member) for member in value] if isinstance(value, list) else value


@pytest.mark.parametrize("example", EXAMPLES)
def test_unknown_keys_pass_everywhere(example):
    assert found(example, with_unknown_keys(EXAMPLES[example])) == []


@pytest.mark.parametrize(
    ("message_type", "payload"),
    [
        ("hologram", {"hologram": {"body": ""}}),
        ("poll", {"poll": ["yes", "no"]}),
        ("interactive", {"interactive": {"type": "poll", "body": {"text": "x" * 5000}}}),
        (
            "template",
            changed("template", "template.components[].parameters[]", {"type": "hologram"}),
        ),
        ("template", changed("template", "template.components[]", {"type": "order_status"})),
        (
            "interactive",
            changed("interactive button", "interactive.action.buttons[]", {"type": "call"}),
        ),
        (
            "interactive",
            changed("interactive button", "interactive.header", {"type": "gif", "gif": {}}),
        ),
    ],
)
def test_an_unknown_type_passes(message_type, payload):
    assert problems(message_type, payload) == []


@pytest.mark.parametrize(
    ("example", "path", "value"),
    [
        ("text", "text.preview_url", None),
        ("image", "image.caption", None),
        ("text", "context", None),
        ("interactive button", "interactive.header", None),
        ("template", "template.components", None),
        ("template", "template.components[].parameters", None),
        ("template", "template.components[].parameters[].text", 17),
        ("template", "template.components[2].index", "9"),
        ("location", "location.latitude", "-90"),
        ("document", "document.link", ""),
        ("image", "image.link", "HTTP://example.com/a.jpg"),
        ("text", "text.body", "🙂" * 4096),
        ("interactive button", "interactive.header", {"type": "image", "image": {"id": "1"}}),
        ("interactive product", "interactive.body", ...),
        ("interactive voice_call", "interactive.action.parameters", ...),
        ("interactive carousel", "interactive.action.cards[].body", ...),
    ],
)
def test_what_is_left_open_passes(example, path, value):
    assert found(example, changed(example, path, value)) == []


@pytest.mark.parametrize(
    ("example", "path", "value", "field", "reason"),
    [
        ("text", "text", None, "text", "is missing"),
        ("text", "text", "hi", "text", "must be an object"),
        ("text", "text.body", ..., "text.body", "is missing"),
        ("text", "text.body", "", "text.body", "is empty"),
        ("text", "text.body", ["hi"], "text.body", "must be text"),
        ("text", "text.body", "\ud800", "text.body", "Unicode"),
        ("text", "text.preview_url", "perhaps", "text.preview_url", "true or false"),
        ("image", "image.link", ..., "image.id", "give id"),
        ("image", "image.id", "1", "image.link", "give either"),
        ("image", "image.link", "ftp://example.com", "image.link", "http://"),
        ("location", "location.latitude", 90.5, "location.latitude", "at most 90"),
        ("location", "location.longitude", "-181", "location.longitude", "at least -180"),
        ("location", "location.latitude", "north", "location.latitude", "a number"),
        ("location", "location.latitude", "nan", "location.latitude", "finite"),
        ("contacts", "contacts", [], "contacts", "at least 1"),
        ("contacts", "contacts", {}, "contacts", "an array"),
        ("contacts", "contacts[].name", {}, "contacts[0].name.formatted_name", "missing"),
        ("contacts", "contacts[].birthday", "10.12.1815", "contacts[0].birthday", "1815-12"),
        ("reaction", "reaction.emoji", ..., "reaction.emoji", "is missing"),
        ("reaction", "context", {"message_id": "wamid.B"}, "context", "leave it out"),
        ("text", "context", {}, "context.message_id", "is missing"),
        ("text", "context", "wamid.B", "context", "an object"),
        ("text", "to", "+14155550123", "to", "recipient column"),
        ("text", "biz_opaque_callback_data", "o" * 513, "biz_opaque_callback_data", "512"),
        ("text", "biz_opaque_callback_data", 5, "biz_opaque_callback_data", "text"),
        ("pin", "recipient_type", ..., "recipient_type", "group"),
        ("pin", "pin.type", "nail", "pin.type", "'pin' or 'unpin'"),
        ("pin", "pin.expiration_days", ..., "pin.expiration_days", "from 1 to 30"),
        ("pin", "pin.expiration_days", 31, "pin.expiration_days", "at most 30"),
        ("template", "template.language", ..., "template.language", "is missing"),
        ("template", "template.components", {}, "template.components", "an array"),
        ("template", "template.components[].type", ..., "template.components[0].type", "missing"),
        ("template", "template.components[]", "body", "template.components[0]", "an object"),
        (
            "template",
            "template.components[].parameters[].text",
            "",
            "template.components[0].parameters[0].text",
            "is empty",
        ),
        (
            "template",
            "template.components[1].parameters[].image",
            {},
            "template.components[1].parameters[0].image.id",
            "give id",
        ),
        ("template", "template.components[2].index", ..., "template.components[2].index", "0 to 9"),
        ("template", "template.components[2].index", 10, "template.components[2].index", "most 9"),
        (
            "template",
            "template.components[2]",
            {"type": "button", "sub_type": "url", "index": 0},
            "template.components[2].parameters",
            "end of the link",
        ),
        ("template", "template.components[4].cards", [], "template.components[4].cards", "least 1"),
        (
            "template",
            "template.components[4].cards[].components",
            [{"type": "body", "parameters": [{"type": "text"}]}],
            "template.components[4].cards[0].components[0].parameters[0].text",
            "is missing",
        ),
    ],
)
def test_a_mistake_is_named_with_its_path_and_its_remedy(example, path, value, field, reason):
    (problem,) = problems(example, changed(example, path, value))
    assert problem.field == f"payload.{field}"
    assert reason in problem.reason


@pytest.mark.parametrize(
    ("kind", "path", "value", "field", "reason"),
    [
        ("button", "type", ..., "type", "is missing"),
        ("button", "body", ..., "body", "is missing"),
        ("button", "header", {"type": "text"}, "header.text", "is missing"),
        ("button", "header", {"type": "image", "image": {}}, "header.image.id", "give id"),
        ("button", "footer", {}, "footer.text", "is missing"),
        ("button", "action.buttons", [], "action.buttons", "at least 1"),
        (
            "button",
            "action.buttons",
            [reply(number) for number in range(4)],
            "action.buttons",
            "holds 4: at most 3",
        ),
        (
            "button",
            "action.buttons[1].reply.title",
            "Button 1",
            "action.buttons[1].reply.title",
            "another button's",
        ),
        ("button", "action.buttons[1].reply.id", " b", "action.buttons[1].reply.id", "blank"),
        ("list", "header.type", "image", "header.type", "'text'"),
        ("list", "action.sections[].title", ..., "action.sections[0].title", "is missing"),
        ("list", "action.sections[1]", rows("B", *range(3, 12)), "action.sections", "11 rows"),
        (
            "list",
            "action.sections[1].rows[]",
            row(2),
            "action.sections[1].rows[0].id",
            "another row's",
        ),
        ("cta_url", "action.name", "flow", "action.name", "'cta_url'"),
        ("cta_url", "action.parameters.url", "example", "action.parameters.url", "whole address"),
        ("flow", "action.parameters.flow_id", ..., "action.parameters.flow_id", "flow_name"),
        ("flow", "action.parameters.flow_name", "x", "action.parameters.flow_name", "one of them"),
        ("product_list", "header", ..., "header", "is missing"),
        ("product_list", "action.sections[1]", products("B", 11), "action.sections", "31 products"),
        ("voice_call", "action.parameters.ttl_minutes", 0, "action.parameters.ttl_minutes", "1"),
        ("carousel", "action.cards", [card(0, "Yes")], "action.cards", "at least 2"),
        ("carousel", "action.cards[].body.text", "\n\n\n", "action.cards[0].body.text", "3 line"),
        ("carousel", "action.cards[1]", card(1, "Yes"), "action.cards[1].action", "same kind"),
        (
            "carousel",
            "action.cards[1].card_index",
            0,
            "action.cards[1].card_index",
            "another card's",
        ),
    ],
)
def test_a_mistake_in_an_interactive_message_is_named(kind, path, value, field, reason):
    example = f"interactive {kind}"
    (problem,) = problems("interactive", changed(example, f"interactive.{path}", value))
    assert problem.field == f"payload.interactive.{field}"
    assert reason in problem.reason


def test_every_problem_is_found_and_the_first_is_raised():
    payload = changed("interactive button", "interactive.body.text", "x" * 1025)
    payload["type"] = "text"
    payload["interactive"]["action"]["buttons"][1]["reply"]["title"] = "x" * 21
    fields = [
        "payload.type",
        "payload.interactive.body.text",
        "payload.interactive.action.buttons[1].reply.title",
    ]
    assert found("interactive", payload) == fields
    with pytest.raises(PayloadError) as caught:
        check("interactive", payload)
    assert caught.value.field == fields[0]


def test_a_limit_is_told_and_the_content_is_not():
    (problem,) = problems("text", {"text": {"body": "secret " * 600}})
    assert str(problem) == (
        "payload.text.body: has 4200 characters: at most 4096 are allowed, shorten it"
    )
