"""People answer in Chatwoot whom a route sends there: words go in through the outbox, answers come out through it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.chatwoot import AGENT
from tests.desk_bench import DESK, Desk, desk_at
from tests.turns_bench import ADA, BOB, Script
from waemitter.outbox.retry import Outcome
from waemitter.turns.handlers.chatwoot import Chatwoot


def to_people() -> Script:
    return Script(answer=Chatwoot(DESK).handle)


async def arrived(desk: Desk, *wamids: str, **more: Any) -> None:
    await desk.talk.hear(*wamids, **more)
    await desk.talk.turn()
    await desk.deliver()


async def test_a_turn_comes_into_a_conversation_and_the_answer_goes_to_the_customer(
    dsn: str,
) -> None:
    async with desk_at(dsn, to_people()) as desk:
        await arrived(desk, "wamid.1", "wamid.2", text={"body": "Where is my bag?"})

        [contact] = desk.fake.contacts.values()
        assert contact["phone_number"] == f"+{ADA}"
        [conversation] = desk.fake.conversations.values()
        assert conversation["contact_inbox"]["source_id"] == "conversation:1"
        assert desk.fake.said() == ["Where is my bag?"] * 2
        assert (
            desk.talk.bench.observed.value("turns_total", route="script", outcome="forwarded") == 1
        )
        await desk.heard()
        assert await desk.to_customer() == []  # what we put there is not taken for an answer

        await desk.fake.write(conversation["id"], "It was **found**.")
        await desk.heard()

        assert await desk.to_customer() == [(f"+{ADA}", "It was *found*.")]
        assert await desk.talk.status() == "human"
        assert await desk.value("select said from waemitter.agent_contexts") == "It was **found**."
        assert desk.talk.bench.observed.value(
            "webhook_events_total", source="chatwoot", kind="message"
        )


async def test_while_a_person_has_it_what_the_customer_writes_comes_to_him(dsn: str) -> None:
    script = to_people()
    async with desk_at(dsn, script) as desk:
        await arrived(desk, "wamid.1")
        await desk.fake.change(1, assignee=AGENT)
        await desk.heard()
        assert await desk.talk.status() == "human"
        script.answer = None  # the bot would answer by itself now

        await arrived(desk, "wamid.2", text={"body": "Hello?"})
        assert desk.fake.said() == ["hello", "Hello?"]
        assert await desk.to_customer() == []

        await desk.fake.change(1, assignee=None)
        await desk.heard()
        assert await desk.talk.status() == "idle"
        await arrived(desk, "wamid.3")
        assert desk.fake.said() == ["hello", "Hello?"]
        assert [said for _, said in await desk.to_customer()] == ["you said: hello"]


async def test_who_is_assigned_while_a_turn_is_made_gets_its_words(dsn: str) -> None:
    script = to_people()
    async with desk_at(dsn, script) as desk:
        await arrived(desk, "wamid.1")

        async def answer(_: Any) -> Any:
            await desk.fake.change(1, assignee=AGENT)
            await desk.heard()
            return await Script().handle(_)

        script.answer = answer
        await arrived(desk, "wamid.2", text={"body": "Hello?"})

        assert desk.fake.said() == ["hello", "Hello?"]
        assert await desk.to_customer() == []


async def test_a_resolved_conversation_is_the_bot_s_again_and_its_session_is_over(dsn: str) -> None:
    async with desk_at(dsn, Script(answer=Chatwoot(DESK).handle, service="support")) as desk:
        await arrived(desk, "wamid.1")
        service = "select active_service from waemitter.user_sessions"
        assert await desk.value(service) == "support"
        await desk.fake.change(1, assignee=AGENT)
        await desk.fake.change(1, status="resolved")
        await desk.heard()

        assert await desk.talk.status() == "idle"
        assert await desk.value(service) is None
        reasons = await desk.talk.pool.fetch(
            "select reason from waemitter.conversation_state_transitions order by id desc limit 1"
        )
        assert [row[0] for row in reasons] == ["resolved in Chatwoot"]


async def test_news_that_come_late_change_nothing(dsn: str) -> None:
    async with desk_at(dsn, to_people()) as desk:
        await arrived(desk, "wamid.1")
        await desk.fake.change(1, assignee=AGENT)
        assigned = desk.fake.told[-1] | {"meta": {**desk.fake.told[-1]["meta"]}}
        await desk.fake.change(1, assignee=None)
        await desk.heard(desk.fake.told[-1])
        await desk.heard(assigned)

        assert await desk.talk.status() == "idle"


async def test_assignments_by_an_automation_may_be_left_out_of_account(dsn: str) -> None:
    async with desk_at(dsn, to_people(), assigns=False) as desk:
        await arrived(desk, "wamid.1")
        await desk.fake.change(1, assignee=AGENT)
        await desk.heard()
        assert await desk.talk.status() == "idle"

        await desk.fake.write(1, "Hello")
        await desk.heard()
        assert await desk.talk.status() == "human"


@pytest.mark.parametrize(
    "more",
    [
        {"private": True},
        {"kind": "activity"},
        {"kind": "template"},
        {"sender": {"id": 3, "name": "Bot", "type": "agent_bot"}},
        {"content_attributes": {"automation_rule_id": 4}},
        {"content_attributes": {"waemitter": "wm1.1.00000000000000ff"}},
    ],
    ids=["private", "activity", "template", "bot", "automation", "ours"],
)
async def test_what_no_person_said_to_the_customer_stays_there(
    dsn: str, more: dict[str, Any]
) -> None:
    async with desk_at(dsn, to_people()) as desk:
        await arrived(desk, "wamid.1")
        await desk.fake.write(1, "internal", **more)
        await desk.heard()

        assert await desk.to_customer() == []
        assert await desk.talk.status() == "idle"


async def test_a_message_that_is_told_twice_is_sent_once(dsn: str) -> None:
    async with desk_at(dsn, to_people()) as desk:
        await arrived(desk, "wamid.1")
        await desk.fake.write(1, "Hello")
        told = desk.fake.told[-1]
        await desk.heard(told, told)
        await desk.heard(told)

        assert len(await desk.to_customer()) == 1
        duplicates = desk.talk.bench.observed.value(
            "webhook_events_total", source="chatwoot", kind="duplicate"
        )
        assert duplicates == 2


async def test_an_agent_s_picture_goes_by_its_link_with_its_words(dsn: str) -> None:
    async with desk_at(dsn, to_people()) as desk:
        await arrived(desk, "wamid.1")
        picture = {"id": 1, "file_type": "image", "data_url": "https://chat.test/bag.png"}
        paper = {"id": 2, "file_type": "file", "data_url": "https://chat.test/a/the%20form.pdf"}
        await desk.fake.write(1, "This one?", attachments=[picture, paper])
        await desk.heard()

        rows = await desk.talk.pool.fetch(
            "select message_type, payload::text from waemitter.outbox_messages where channel = 'default' order by id"
        )
        assert [row[0] for row in rows] == ["image", "document"]
        assert '"caption": "This one?"' in rows[0][1]
        assert '"filename": "the form.pdf"' in rows[1][1]


async def test_two_customers_have_two_conversations(dsn: str) -> None:
    async with desk_at(dsn, to_people()) as desk:
        await arrived(desk, "wamid.1")
        await arrived(desk, "wamid.2", sender=BOB)
        await arrived(desk, "wamid.3")
        assert len(desk.fake.conversations) == 2
        of = [each["conversation_id"] for each in desk.fake.messages]
        assert of == [1, 2, 1]

        await desk.fake.write(2, "Hello Bob")
        await desk.heard()
        assert await desk.to_customer() == [(f"+{BOB}", "Hello Bob")]


async def test_an_agent_who_writes_first_reaches_whom_the_number_knows(dsn: str) -> None:
    async with desk_at(dsn) as desk:
        await desk.talk.hear("wamid.1")
        known, stranger = desk.fake.begin(), desk.fake.begin(phone="+14155550199")
        await desk.fake.write(known, "Good news")
        await desk.fake.write(stranger, "Who are you?")
        await desk.heard()

        assert await desk.to_customer() == [(f"+{ADA}", "Good news")]
        assert desk.talk.bench.observed.lines("WEBHOOK_NUMBER_UNKNOWN")


async def test_a_conversation_that_was_deleted_there_is_begun_anew(dsn: str) -> None:
    async with desk_at(dsn, to_people()) as desk:
        await arrived(desk, "wamid.1")
        desk.fake.conversations.clear()
        await desk.talk.hear("wamid.2")
        await desk.talk.turn()

        decisions = await desk.deliver()

        assert [each.outcome for each in decisions] == [Outcome.RETRY, Outcome.SENT]
        assert desk.fake.said() == ["hello", "hello"]


async def test_a_handover_goes_to_the_desk_of_all_who_are_in_none(dsn: str) -> None:
    script = Script()
    async with desk_at(dsn, script, default_desk=DESK) as desk:

        async def hand_over(turn: Any) -> Any:
            answer = await Script().handle(turn)
            return type(answer)(messages=answer.messages, handover=True)

        script.answer = hand_over
        await arrived(desk, "wamid.1", text={"body": "A person, please"})
        await arrived(desk, "wamid.2", text={"body": "Hello?"})

        assert desk.fake.said() == ["A person, please", "Hello?"]
        assert [said for _, said in await desk.to_customer()] == ["you said: A person, please"]


async def test_what_is_written_to_a_person_waits_for_nothing_and_is_not_limited(dsn: str) -> None:
    async with desk_at(dsn, to_people()) as desk:
        await arrived(desk, "wamid.1")
        await desk.fake.change(1, assignee=AGENT)
        await desk.heard()
        many = [f"wamid.{n}" for n in range(2, 30)]  # the rate is 20 a minute
        for wamid in many:
            await desk.talk.hear(wamid)

        assert await desk.talk.work() == len(many)  # without the end of a window

        await desk.deliver()
        assert len(desk.fake.said()) == 1 + len(many)
