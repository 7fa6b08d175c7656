"""Chatwoot has the number: what customers write there is gathered, answered by turns, and the answers are posted there."""

from __future__ import annotations

import datetime
import time
from typing import Any

import orjson
import pytest

from tests.chatwoot import AGENT, INBOX
from tests.desk_bench import DESK, Desk, desk_at
from tests.turns_bench import Script
from waemitter.inbox.splitter import Unusable
from waemitter.turns.turn import Answer

OLD = {
    "id": 12345,
    "event": "message_created",
    "content": "Test message",
    "message_type": "incoming",
    "conversation": {"id": 1, "status": "open", "channel": "Channel::Whatsapp"},
    "sender": {"id": 1, "name": "Test User", "phone_number": "+1234567890"},
    "created_at": "2026-11-22T10:00:00.000Z",
}
"""What an older system was tested with."""


async def work(desk: Desk) -> None:
    await desk.talk.due()
    await desk.talk.work()
    await desk.deliver()


async def test_a_burst_is_one_turn_and_its_answer_is_posted(dsn: str) -> None:
    async with desk_at(dsn, api=False) as desk:
        here = desk.fake.begin()
        for words in ("Hi", "I lost", "my bag"):
            await desk.fake.write(here, words, kind="incoming")
        await desk.heard()
        await work(desk)

        [turn] = desk.talk.script.turns
        assert turn.text == "Hi\nI lost\nmy bag"
        assert (turn.channel, turn.contact.phone, turn.contact.name) == (
            DESK,
            "+14155550123",
            "Ada",
        )
        assert turn.messages[0]["from"] == "14155550123"
        assert desk.fake.said("outgoing") == ["you said: Hi\nI lost\nmy bag"]
        await desk.heard()  # our own, by webhook
        assert await desk.talk.status() == "idle"
        assert not await desk.value("select count(*) from waemitter.inbound_messages where from_us")


async def test_the_message_of_an_older_system_is_understood(dsn: str) -> None:
    async with desk_at(dsn) as desk:
        await desk.heard(OLD)
        await desk.heard({key: OLD[key] for key in OLD if key != "event"})

        row = await desk.talk.pool.fetchrow("select * from waemitter.inbound_messages")
        assert row is not None
        assert row["sent_at"] == datetime.datetime(2026, 11, 22, 10, tzinfo=datetime.UTC)
        assert await desk.value("select count(*) from waemitter.buffered_messages") == 1


async def test_who_has_no_number_is_known_by_chatwoot_s_id(dsn: str) -> None:
    async with desk_at(dsn, api=False) as desk:
        here = desk.fake.begin(phone=None)
        await desk.fake.write(here, "Hi", kind="incoming")
        await desk.heard()
        await work(desk)

        assert desk.fake.said("outgoing") == ["you said: Hi"]
        recipient = await desk.value("select recipient from waemitter.outbox_messages")
        assert recipient == f"chatwoot.{next(iter(desk.fake.contacts))}"


async def test_the_answer_goes_where_the_customer_wrote_last(dsn: str) -> None:
    async with desk_at(dsn, api=False) as desk:
        first = desk.fake.begin()
        await desk.fake.write(first, "one", kind="incoming")
        contact = next(iter(desk.fake.contacts))
        second = desk.fake._conversation(contact, source_id=None)["id"]
        await desk.fake.write(second, "two", kind="incoming")
        await desk.heard()
        await work(desk)

        assert await desk.value("select count(*) from waemitter.conversations") == 1
        [answer] = [each for each in desk.fake.messages if each["message_type"] == 1]
        assert answer["conversation_id"] == second


async def test_buttons_are_shown_as_such_and_templates_by_name(dsn: str) -> None:
    script = Script()
    async with desk_at(dsn, script, api=False) as desk:
        buttons = [{"type": "reply", "reply": {"id": "y", "title": "Yes"}}]
        asked = {"type": "button", "body": {"text": "Sure?"}, "action": {"buttons": buttons}}
        template = {
            "name": "order_shipped",
            "language": {"code": "en"},
            "components": [{"type": "body", "parameters": [{"type": "text", "text": "17"}]}],
        }

        async def answer(_: Any) -> Answer:
            return Answer(
                messages=[
                    {"type": "interactive", "interactive": asked},
                    {"type": "template", "template": template},
                ]
            )

        script.answer = answer
        await desk.fake.write(desk.fake.begin(), "Hi", kind="incoming")
        await desk.heard()
        await work(desk)

        shown, sent = [each for each in desk.fake.messages if each["message_type"] == 1]
        assert (shown["content"], shown["content_type"]) == ("Sure?", "input_select")
        assert shown["content_attributes"]["items"] == [{"title": "Yes", "value": "y"}]
        assert sent["template_params"] == {
            "name": "order_shipped",
            "language": "en",
            "processed_params": {"1": "17"},
        }


async def test_an_agent_who_answers_there_silences_the_bot_and_is_remembered(dsn: str) -> None:
    async with desk_at(dsn, api=False) as desk:
        here = desk.fake.begin()
        await desk.fake.write(here, "Hi", kind="incoming")
        await desk.fake.write(here, "Carol here")
        await desk.heard()
        await work(desk)

        assert desk.fake.said("outgoing") == ["Carol here"]
        assert await desk.talk.status() == "human"
        row = await desk.talk.pool.fetchrow("select heard, said from waemitter.agent_contexts")
        assert row is not None
        assert tuple(row) == ("Hi", "Carol here")
        assert await desk.value("select count(*) from waemitter.outbox_messages") == 0


async def test_attachments_and_places_are_messages_of_their_types(dsn: str) -> None:
    async with desk_at(dsn, api=False) as desk:
        place = {"file_type": "location", "coordinates_lat": 1.5, "coordinates_long": 2.5}
        picture = {"file_type": "image", "data_url": "https://chat.test/bag.png"}
        voice = {"file_type": "audio", "data_url": "https://chat.test/voice.ogg"}
        here = desk.fake.begin()
        await desk.fake.write(here, "look", kind="incoming", attachments=[picture, voice])
        await desk.fake.write(here, None, kind="incoming", attachments=[place])
        await desk.heard()
        await work(desk)

        [turn] = desk.talk.script.turns
        assert [each["type"] for each in turn.messages] == ["image", "audio", "location"]
        assert turn.messages[0]["image"] == {"link": picture["data_url"], "caption": "look"}
        assert turn.messages[2]["location"] == {"latitude": 1.5, "longitude": 2.5}
        assert len({each["id"] for each in turn.messages}) == 3


@pytest.mark.parametrize("inbox", [INBOX + 1, None])
async def test_other_inboxes_are_left_alone_and_a_single_one_needs_no_name(
    dsn: str, inbox: int | None
) -> None:
    async with desk_at(dsn) as desk:
        await desk.heard(OLD | {"inbox": {"id": inbox}, "account": {"id": 7}})

        assert await desk.value("select count(*) from waemitter.inbound_messages") == (
            inbox is None
        )
        await desk.heard(OLD | {"id": 2, "account": {"id": 8}})
        assert len(desk.talk.bench.observed.lines("WEBHOOK_NUMBER_UNKNOWN")) == (1 + bool(inbox))


async def test_what_a_lost_webhook_would_have_brought_is_asked_for(dsn: str) -> None:
    async with desk_at(dsn, api=False) as desk:
        here = desk.fake.begin()
        await desk.fake.write(here, "heard", kind="incoming")
        await desk.heard()
        await work(desk)
        for words in ("lost", "lost too"):
            desk.fake.keep(here, words, kind="incoming")
        stranger = desk.fake.begin(phone="+14155550124", name="Bob")
        desk.fake.keep(stranger, "lost from the start", kind="incoming")
        desk.fake.told.clear()

        summary = await desk.reconciler.run()
        await desk.split()
        await work(desk)

        assert (summary["conversations"], summary["messages"]) == (2, 4)  # our own answer as well
        said = {turn.text for turn in desk.talk.script.turns}
        assert said == {"heard", "lost from the start", "lost\nlost too"}
        again = await desk.reconciler.run()
        await desk.split()
        await work(desk)
        assert len(desk.talk.script.turns) == 3
        assert again["messages"] == 2  # the answers


async def test_an_assignment_whose_webhook_was_lost_counts_too(dsn: str) -> None:
    async with desk_at(dsn, api=False) as desk:
        here = desk.fake.begin()
        await desk.fake.write(here, "heard", kind="incoming")
        await desk.heard()
        await desk.fake.change(here, assignee=AGENT)
        desk.fake.told.clear()

        await desk.reconciler.run()
        await desk.split()

        assert await desk.talk.status() == "human"


async def test_what_was_said_before_we_came_is_not_answered(dsn: str) -> None:
    async with desk_at(dsn, api=False) as desk:
        here = desk.fake.begin()
        for age in (7200, 0):
            message = desk.fake.keep(here, f"{age} s ago", kind="incoming")
            message["created_at"] -= age

        await desk.reconciler.run()
        await desk.split()
        await work(desk)

        assert [turn.text for turn in desk.talk.script.turns] == ["0 s ago"]


async def test_a_broken_webhook_is_put_aside_and_its_neighbours_are_not(dsn: str) -> None:
    async with desk_at(dsn) as desk:
        broken: dict[str, Any] = {"event": "message_created", "id": "x", "conversation": {"id": 1}}
        await desk.journal([orjson.dumps(broken), b"[]", orjson.dumps(OLD)])
        await desk.split()

        letters = await desk.talk.bench.letters()
        assert [(each["source"], each["stage"]) for each in letters] == [("chatwoot", "split")] * 2
        assert await desk.value("select count(*) from waemitter.inbound_messages") == 1
        assert await desk.talk.bench.unprocessed() == 0


async def test_a_webhook_that_failed_is_redone_from_its_letter(dsn: str) -> None:
    async with desk_at(dsn) as desk:
        await desk.talk.pool.execute("alter table waemitter.message_buffer rename to away")
        await desk.heard(OLD)
        [letter] = await desk.talk.bench.letters()
        assert letter["error"].startswith("Undefined")
        assert letter["next_retry_at"] is not None
        assert await desk.value("select count(*) from waemitter.inbound_messages") == 0
        await desk.talk.pool.execute("alter table waemitter.away rename to message_buffer")

        await desk.splitter.redo(payload=letter["payload"])

        assert await desk.value("select count(*) from waemitter.inbound_messages") == 1
        with pytest.raises(Unusable):
            await desk.splitter.redo(payload='{"webhook_id": 1, "webhook": {}}')


async def test_a_conversation_that_is_reopened_by_its_customer_is_the_bot_s(dsn: str) -> None:
    async with desk_at(dsn, api=False) as desk:
        here = desk.fake.begin()
        await desk.fake.write(here, "Hi", kind="incoming")
        await desk.fake.change(here, assignee=AGENT)
        await desk.heard()
        assert await desk.talk.status() == "human"
        await desk.fake.change(here, status="resolved")
        await desk.heard()
        desk.fake.conversations[here].update(status="open", updated_at=time.time())
        await desk.fake.write(here, "One more thing", kind="incoming")
        await desk.heard()
        await work(desk)

        assert desk.fake.said("outgoing") == ["you said: Hi\nOne more thing"]
