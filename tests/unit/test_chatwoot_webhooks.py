"""What Chatwoot says, in its shapes of several versions and places."""

from __future__ import annotations

import datetime
from typing import Any

import orjson
import pytest

from waemitter.chatwoot.messages import heard, post_of, said
from waemitter.chatwoot.signature import sign, verify
from waemitter.chatwoot.webhooks import (
    ConversationChanged,
    Malformed,
    Message,
    MessageCreated,
    Other,
    as_changed,
    as_created,
    parse,
    read,
)

AT = datetime.datetime(2020, 3, 3, 13, 5, 57, tzinfo=datetime.UTC)
MESSAGE: dict[str, Any] = {
    "event": "message_created",
    "id": 3,
    "message_type": "incoming",
    "content": "Hi",
    "conversation": {"id": 9},
}


@pytest.mark.parametrize(
    "written",
    [
        "2020-03-03 13:05:57 UTC",
        "2020-03-03T13:05:57Z",
        "2020-03-03T14:05:57+01:00",
        1583240757,
        "1583240757",
        1583240757.0,
    ],
)
def test_times_are_written_in_several_ways(written: Any) -> None:
    event = read(MESSAGE | {"created_at": written})
    assert isinstance(event, MessageCreated)
    assert event.message.created_at == AT


@pytest.mark.parametrize("written", [None, "soon", [], 1e300])
def test_a_time_that_is_none_is_none(written: Any) -> None:
    event = read(MESSAGE | {"created_at": written})
    assert isinstance(event, MessageCreated)
    assert event.message.created_at is None


@pytest.mark.parametrize(
    ("written", "kind"), [("outgoing", "outgoing"), (1, "outgoing"), (3, "template")]
)
def test_types_are_words_or_numbers(written: Any, kind: str) -> None:
    event = read(MESSAGE | {"message_type": written})
    assert isinstance(event, MessageCreated)
    assert event.message.message_type == kind


def test_what_is_missing_or_null_does_no_harm() -> None:
    lean = MESSAGE | {
        "content": None,
        "sender": None,
        "attachments": None,
        "content_attributes": None,
        "inbox": None,
        "conversation": {"id": 9, "meta": None, "contact_inbox": None, "inbox_id": 5},
    }
    event = read(lean)
    assert isinstance(event, MessageCreated)
    assert (event.inbox_id, event.account_id, event.contact) == (5, None, None)
    assert not event.conversation.knows_assignee
    assert heard(event.message, key="k", sender={}) == []


@pytest.mark.parametrize(
    ("assignee", "meta", "found", "tells"),
    [
        ({"id": 4, "type": "user"}, {}, 4, True),
        (None, {}, None, True),
        ({"id": 4, "type": "agent_bot"}, {}, None, True),
        ({"id": 4}, {"assignee_type": "AgentBot"}, None, True),
    ],
)
def test_only_a_person_is_an_assignee(
    assignee: Any, meta: dict[str, Any], found: int | None, *, tells: bool
) -> None:
    document = {"event": "conversation_updated", "id": 9, "meta": {"assignee": assignee, **meta}}
    event = read(document)
    assert isinstance(event, ConversationChanged)
    assert (event.conversation.assignee_id, event.conversation.knows_assignee) == (found, tells)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"{", "the body is no JSON"),
        (b"[]", "the body is no JSON object"),
        (orjson.dumps(MESSAGE | {"id": "x"}), "id is missing or wrong"),
        (orjson.dumps(MESSAGE | {"message_type": 9}), "message_type is missing or wrong"),
        (orjson.dumps(MESSAGE | {"conversation": None}), "conversation is missing or wrong"),
        (orjson.dumps({"event": "conversation_updated"}), "id is missing or wrong"),
    ],
)
def test_what_is_none_of_chatwoot_s_is_said_by_its_field(body: bytes, words: str) -> None:
    with pytest.raises(Malformed, match=words):
        parse(body)


def test_other_events_have_a_name_and_no_effect() -> None:
    event = read({"event": "contact_created", "id": 1})
    assert isinstance(event, Other)
    assert event.event == "contact_created"


def test_no_character_comes_in_that_a_database_cannot_store() -> None:
    event = parse(orjson.dumps(MESSAGE | {"content": "a\x00b"}))
    assert isinstance(event, MessageCreated)
    assert event.message.content == "a\ufffdb"
    assert b"u0000" not in orjson.dumps(event.raw)


def test_what_the_api_lists_is_read_as_a_webhook() -> None:
    conversation = {"id": 9, "inbox_id": 5, "status": "open", "messages": [{"id": 1}], "meta": {}}
    listed = {"id": 3, "message_type": 0, "content": "Hi", "created_at": 1583240757}
    created = read(as_created(listed, conversation, account_id=7, inbox_id=5))
    changed = read(as_changed(conversation, account_id=7, inbox_id=None))
    assert isinstance(created, MessageCreated)
    assert (created.account_id, created.inbox_id, created.message.created_at) == (7, 5, AT)
    assert isinstance(changed, ConversationChanged)
    assert (changed.account_id, changed.inbox_id) == (7, 5)
    assert "messages" not in changed.raw


def message(**more: Any) -> Message:
    return Message.model_validate({"id": 3, "message_type": 1, **more})


def test_long_words_are_several_messages_and_too_long_for_a_caption_are_text() -> None:
    picture = {"file_type": "image", "data_url": "https://x.test/a.png"}
    assert [part["type"] for part in said(message(content="x" * 5000))] == ["text", "text"]
    long = said(message(content="x" * 1025, attachments=[picture]))
    assert [part["type"] for part in long] == ["text", "image"]
    assert "caption" not in long[1]["image"]


def test_a_voice_has_no_caption_and_what_has_no_type_is_a_link() -> None:
    voice = {"file_type": "audio", "data_url": "https://x.test/a.ogg"}
    story = {"file_type": "story_mention", "data_url": "https://x.test/s"}
    parts = said(message(content="**a** and ~~b~~", attachments=[voice, story]))
    assert parts == [
        {"type": "text", "text": {"body": "*a* and ~b~"}},
        {"type": "audio", "audio": {"link": voice["data_url"]}},
        {"type": "text", "text": {"body": story["data_url"]}},
    ]


@pytest.mark.parametrize(
    ("kind", "payload", "content"),
    [
        ("location", {"location": {"latitude": 1, "longitude": 2, "name": "Pier"}}, "Pier\n1, 2"),
        ("button", {"button": {"text": "Yes", "payload": "y"}}, "Yes"),
        ("reaction", {"reaction": {"emoji": "👍"}}, "[reaction 👍]"),
        ("interactive", {"interactive": {"list_reply": {"title": "Rides"}}}, "Rides"),
        ("contacts", {"contacts": [1]}, "[contacts]"),
        ("unknown", {}, "[unknown]"),
    ],
)
def test_what_chatwoot_has_no_shape_for_is_told_in_words(
    kind: str, payload: dict[str, Any], content: str
) -> None:
    post = post_of(kind, payload | {"from_customer": {}})
    assert (post.content, post.incoming) == (content, True)


def test_signatures_are_of_the_time_too() -> None:
    genuine = sign("s", timestamp="100", raw=b"{}")
    assert verify(["x", "s"], b"{}", signature=genuine, timestamp="100", now=400)
    for changed in (
        {"timestamp": "101"},
        {"now": 401},
        {"signature": "sha256=ü"},
        {"timestamp": None},
        {"timestamp": "²"},
    ):
        given: dict[str, Any] = {"signature": genuine, "timestamp": "100", "now": 100.0} | changed
        assert not verify(["s"], b"{}", **given)
    assert not verify(
        [""], b"{}", signature=sign("", timestamp="100", raw=b"{}"), timestamp="100", now=100
    )
