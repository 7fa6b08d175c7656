from typing import Any

import pytest

from waemitter.simulator.errors import CATALOGUE, code_of_recipient
from waemitter.simulator.validation import validate


def message(kind: str, content: object, **more: object) -> dict[str, Any]:
    envelope = {"messaging_product": "whatsapp", "to": "+1 (555) 010-1201", "type": kind}
    return {**envelope, kind: content, **more}


def interactive(kind: str, action: object, **parts: object) -> dict[str, Any]:
    content = {"type": kind, "body": {"text": "Choose"}, "action": action, **parts}
    return message("interactive", content)


def buttons(*titles: str) -> dict[str, Any]:
    return {
        "buttons": [
            {"type": "reply", "reply": {"id": str(index), "title": title}}
            for index, title in enumerate(titles)
        ]
    }


def rows(count: int, **more: object) -> dict[str, Any]:
    return {"rows": [{"id": f"{more}{i}", "title": f"Row {i}"} for i in range(count)], **more}


def template(*components: object, **more: object) -> dict[str, Any]:
    content = {"name": "order", "language": {"code": "en_US"}, "components": list(components)}
    return message("template", content, **more)


def body_parameters(*texts: str) -> dict[str, Any]:
    return {"type": "body", "parameters": [{"type": "text", "text": text} for text in texts]}


CARD: dict[str, Any] = {"name": {"formatted_name": "Ada"}, "phones": [{"phone": "+1555"}]}
FLOW: dict[str, Any] = {"flow_message_version": "3", "flow_cta": "Book", "flow_id": "1"}

ACCEPTED = {
    "text": message("text", {"body": "x" * 4096, "preview_url": True}),
    "text by default": {
        "messaging_product": "whatsapp",
        "recipient_type": "individual",
        "to": "15550101201",
        "text": {"body": "hi"},
    },
    "quoted reply": message("text", {"body": "hi"}, context={"message_id": "wamid.x"}),
    "opaque data": message("text", {"body": "hi"}, biz_opaque_callback_data="o" * 512),
    "image by link": message("image", {"link": "https://example.net/a.jpg", "caption": "a"}),
    "document by id": message("document", {"id": "123", "filename": "a.pdf"}),
    "voice note": message("audio", {"id": "123", "voice": True}),
    "video": message("video", {"id": "123"}),
    "sticker": message("sticker", {"id": "123"}),
    "location": message("location", {"latitude": "52.5", "longitude": 13.4, "name": "Berlin"}),
    "contacts": message("contacts", [CARD]),
    "reaction removed": message("reaction", {"message_id": "wamid.x", "emoji": ""}),
    "template": template(body_parameters("17")),
    "template button": template(
        {
            "type": "button",
            "sub_type": "url",
            "index": "0",
            "parameters": [{"type": "text", "text": "17"}],
        }
    ),
    "named parameter": template(
        {
            "type": "BODY",
            "parameters": [{"type": "text", "text": "17", "parameter_name": "order"}],
        }
    ),
    "buttons": interactive("button", buttons("Yes", "No"), footer={"text": "Thanks"}),
    "list": interactive("list", {"button": "Open", "sections": [rows(10)]}),
    "link button": interactive(
        "cta_url",
        {
            "name": "cta_url",
            "parameters": {"display_text": "Open", "url": "https://example.net"},
        },
    ),
    "flow": interactive("flow", {"name": "flow", "parameters": FLOW}),
    "location request": interactive("location_request_message", {"name": "send_location"}),
    "to a user id": {
        "messaging_product": "whatsapp",
        "recipient": "US.13491208655302741918",
        "type": "text",
        "text": {"body": "hi"},
    },
    "group pin": message(
        "pin",
        {"type": "pin", "message_id": "wamid.x", "expiration_days": 7},
        recipient_type="group",
    ),
}


@pytest.mark.parametrize("body", ACCEPTED.values(), ids=ACCEPTED)
def test_good_messages_are_accepted(body):
    assert validate(body) is None


def refused(code: int, details: str, body: object) -> Any:
    return pytest.param(body, code, details, id=f"{code} {details[:50]}")


def without(field: str) -> dict[str, Any]:
    body = message("text", {"body": "hi"})
    del body[field]
    return body


@pytest.mark.parametrize(
    ("body", "code", "details"),
    [
        refused(100, "must be a JSON object", [1]),
        refused(131008, "Required parameter is missing: to", without("to")),
        refused(131008, "Required parameter is missing: text", without("text")),
        refused(
            131008, "Required parameter is missing: text['body']", message("text", {"body": ""})
        ),
        refused(
            100,
            'Unexpected key "extra" on param "text".',
            message("text", {"body": "hi", "extra": 1}),
        ),
        refused(
            100,
            'Unexpected key "preview_url" on the message.',
            message("text", {"body": "hi"}, preview_url=True),
        ),
        refused(100, "at most 4096 characters", message("text", {"body": "x" * 4097})),
        refused(100, "must be a string", message("text", {"body": 1})),
        refused(100, "must be a JSON object", message("text", "hi")),
        refused(100, "messaging_product must be one of", {"messaging_product": "sms"}),
        refused(131051, "Unsupported message type: fax", message("fax", {})),
        refused(131009, "valid phone number", message("text", {"body": "hi"}, to="Ada")),
        refused(131009, "number of digits", message("text", {"body": "hi"}, to="+123")),
        refused(131009, "number of digits", message("text", {"body": "hi"}, to="1" * 16)),
        refused(
            131009,
            "user id",
            {"messaging_product": "whatsapp", "recipient": "15550101201", "text": {"body": "hi"}},
        ),
        refused(131008, "missing: image['id']", message("image", {"caption": "a"})),
        refused(
            100, "either id or link", message("image", {"id": "1", "link": "https://example.net"})
        ),
        refused(100, "not a valid URI", message("image", {"link": "example.net/a.jpg"})),
        refused(100, 'Unexpected key "caption"', message("sticker", {"id": "1", "caption": "a"})),
        refused(131009, "out of range", message("location", {"latitude": 91, "longitude": 0})),
        refused(100, "must be a number", message("location", {"latitude": "N", "longitude": 0})),
        refused(131008, "formatted_name", message("contacts", [{"name": {}}])),
        refused(131009, "YYYY-MM-DD", message("contacts", [{**CARD, "birthday": "1.1.2000"}])),
        refused(
            100,
            "contextual reply",
            message(
                "reaction",
                {"message_id": "wamid.x", "emoji": "👍"},
                context={"message_id": "wamid.y"},
            ),
        ),
        refused(100, "in groups only", message("pin", {"type": "pin", "message_id": "wamid.x"})),
        refused(
            131009,
            "biz_opaque_callback_data length invalid",
            message("text", {"body": "hi"}, biz_opaque_callback_data="o" * 513),
        ),
        refused(131008, "language", message("template", {"name": "order"})),
        refused(
            131008,
            "['index']",
            template({"type": "button", "sub_type": "quick_reply", "parameters": []}),
        ),
        refused(132018, "new-line/tab", template(body_parameters("a\nb"))),
        refused(100, "must be one of", template({"type": "poem"})),
        refused(
            131009,
            "Button title length invalid. Min length: 1, Max length: 20",
            interactive("button", buttons("t" * 21)),
        ),
        refused(131009, "begin or end with a blank", interactive("button", buttons(" Yes"))),
        refused(131009, "titles must be unique", interactive("button", buttons("Yes", "Yes"))),
        refused(131009, "4 items", interactive("button", buttons("1", "2", "3", "4"))),
        refused(
            131009,
            "Total row count exceed",
            interactive(
                "list",
                {"button": "Open", "sections": [rows(6, title="A"), rows(5, title="B")]},
            ),
        ),
        refused(
            131008,
            "['title']",
            interactive("list", {"button": "Open", "sections": [rows(1, title="A"), rows(1)]}),
        ),
        refused(
            131009,
            "not both",
            interactive("flow", {"name": "flow", "parameters": {**FLOW, "flow_name": "book"}}),
        ),
        refused(100, "must be one of", interactive("hologram", {})),
    ],
)
def test_bad_messages_are_refused_with_their_code(body, code, details):
    error = validate(body)
    assert error is not None
    assert error.code == code
    assert details in (error.details or "")


def test_without_a_product_the_title_itself_names_the_parameter():
    error = validate({"to": "15550101201"})
    assert error is not None
    message = error.reply("trace")["error"]["message"]
    assert message == "(#100) The parameter messaging_product is required."


def test_the_marketing_endpoint_takes_only_templates_and_knows_more_fields():
    policy = {"product_policy": "STRICT"}
    assert validate(template(**policy), marketing=True) is None
    error = validate(template(**policy))
    assert error is not None
    assert error.code == 100
    error = validate(message("text", {"body": "hi"}), marketing=True)
    assert error is not None
    assert error.code == 131055


@pytest.mark.parametrize(
    ("code", "reply"),
    [
        (
            130429,
            {
                "message": "(#130429) Rate limit hit",
                "type": "OAuthException",
                "code": 130429,
                "error_data": {
                    "messaging_product": "whatsapp",
                    "details": "The phone number went over its throughput.",
                },
                "error_subcode": 2494055,
                "fbtrace_id": "T",
            },
        ),
        (
            2,
            {
                "message": "An unexpected error has occurred. Please retry your request later.",
                "type": "OAuthException",
                "code": 2,
                "is_transient": True,
                "fbtrace_id": "T",
            },
        ),
        (
            10,
            {
                "message": "(#10) Application does not have permission for this action",
                "type": "OAuthException",
                "code": 10,
                "fbtrace_id": "T",
            },
        ),
    ],
)
def test_an_error_reply_has_metas_shape(code, reply):
    assert CATALOGUE[code].reply("T") == {"error": reply}


@pytest.mark.parametrize(
    ("digits", "code"),
    [
        ("1555131026", 131026),
        ("15550131047", 131047),
        ("155580007", 80007),
        ("1555999190", 190),
        ("1555999004", 4),
        ("1555000190", None),
        ("15550101201", None),
    ],
)
def test_a_recipient_may_stand_for_an_error(digits, code):
    assert code_of_recipient(digits) == code
