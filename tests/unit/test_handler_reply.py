from typing import Any

import pytest

from waemitter.errors import PayloadError
from waemitter.turns.handlers.canned import canned
from waemitter.turns.handlers.reply import LONGEST_NAME, Reply
from waemitter.turns.turn import Contact, Session, Turn


def turn(name: str | None = "Ada") -> Turn:
    contact = Contact(5, "14155550123", None, "+14155550123", name)
    return Turn(
        turn_id=7,
        attempt=1,
        channel="default",
        route="r",
        conversation_id=3,
        contact=contact,
        session=Session(),
        text="hi",
        messages=[],
    )


BODY = {"text": "Where to?"}


@pytest.mark.parametrize(
    ("written", "made"),
    [
        ({"text": "Hello"}, [{"type": "text", "text": {"body": "Hello"}}]),
        (
            {"text": "Where to?", "buttons": ["Home", {"id": "w", "title": "Work"}]},
            [
                {
                    "type": "interactive",
                    "interactive": {
                        "type": "button",
                        "body": BODY,
                        "action": {
                            "buttons": [
                                {"type": "reply", "reply": {"id": "Home", "title": "Home"}},
                                {"type": "reply", "reply": {"id": "w", "title": "Work"}},
                            ]
                        },
                    },
                }
            ],
        ),
        (
            {"text": "Where to?", "list": {"button": "Places", "rows": ["Home"]}},
            [
                {
                    "type": "interactive",
                    "interactive": {
                        "type": "list",
                        "body": BODY,
                        "action": {
                            "button": "Places",
                            "sections": [{"rows": [{"id": "Home", "title": "Home"}]}],
                        },
                    },
                }
            ],
        ),
        (
            {"template": {"name": "hi", "language": "en_US", "parameters": [17]}},
            [
                {
                    "type": "template",
                    "template": {
                        "name": "hi",
                        "language": {"code": "en_US"},
                        "components": [
                            {"type": "body", "parameters": [{"type": "text", "text": "17"}]}
                        ],
                    },
                }
            ],
        ),
        (
            {"image": {"link": "https://x.test/a.png"}, "text": "Our menu"},
            [
                {"type": "image", "image": {"link": "https://x.test/a.png"}},
                {"type": "text", "text": {"body": "Our menu"}},
            ],
        ),
        (
            {
                "messages": [
                    {"type": "reaction", "reaction": {"message_id": "wamid.1", "emoji": "👍"}}
                ]
            },
            [{"type": "reaction", "reaction": {"message_id": "wamid.1", "emoji": "👍"}}],
        ),
    ],
)
def test_what_is_written_becomes_cloud_api_objects(written: dict[str, Any], made: list[Any]):
    assert list(canned(written)) == made


@pytest.mark.parametrize(
    ("written", "field"),
    [
        ({"buttons": ["a"]}, "text"),
        ({"text": "x", "buttons": ["a"], "list": {"rows": ["b"]}}, "list"),
        ({"text": "x", "buttons": ["a" * 21]}, "interactive.action.buttons[0].reply.title"),
        ({"text": "x" * 4097}, "text.body"),
        ({"text": "x", "image": {}}, "messages[0].image"),
    ],
)
def test_what_meta_would_refuse_is_refused_at_the_start(written, field):
    with pytest.raises(PayloadError) as raised:
        canned(written)
    assert raised.value.field.startswith(field)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Ada", "Hello Ada, +14155550123 {1}"),
        (None, "Hello there, +14155550123 {1}"),
        ("  A\n b ", "Hello A b, +14155550123 {1}"),
        ("{phone}", "Hello {phone}, +14155550123 {1}"),
        ("x" * 99, f"Hello {'x' * LONGEST_NAME}, +14155550123 {{1}}"),
    ],
)
async def test_the_contact_s_name_and_number_are_put_in(name, said):
    answer = await Reply(canned({"text": "Hello {name|there}, {phone} {1}"})).handle(turn(name))

    assert answer.messages == [{"type": "text", "text": {"body": said}}]
    assert answer.session is None
