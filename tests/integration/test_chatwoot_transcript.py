"""Who gets a conversation in Chatwoot reads what was said before: once, privately, before the customer's words."""

from __future__ import annotations

import time
from typing import Any, Final

import pytest

from tests.chatwoot import AGENT
from tests.desk_bench import DESK, Desk, desk_at
from tests.turns_bench import Script
from waemitter.chatwoot.messages import LONGEST_LINE, post_of
from waemitter.outbox.retry import Outcome
from waemitter.turns.handlers.chatwoot import Chatwoot
from waemitter.turns.turn import Answer, Turn

HEADING: Final = "What was said before:"
MORE: Final = "Customer: Hello?\nBot: you said: Hello?"
MARKED: Final = "select count(*) from waemitter.outbox_messages where message_type = 'transcript'"


async def person_or_bot(turn: Turn) -> Answer:
    if "person" in (turn.text or ""):
        return await Chatwoot(DESK).handle(turn)
    return await Script().handle(turn)


async def says(desk: Desk, wamid: str, words: str, *, ago: float = 0) -> None:
    """`ago`: seconds for which the webhook was on its way."""
    await desk.talk.hear(wamid, text={"body": words}, timestamp=str(int(time.time() - ago)))
    await desk.talk.turn()
    await reach_customer(desk)
    await desk.deliver()


async def reach_customer(desk: Desk) -> None:
    claimed = await desk.outbox.claim(channel="default")
    await desk.outbox.settle_all(claimed.attempts, Outcome.SENT)


def shown(desk: Desk) -> list[tuple[bool, str]]:
    """What came into Chatwoot, in order: whether privately, and the words without their times."""
    return [
        (each["private"], "\n".join(line.partition(" UTC  ")[2] or line for line in lines))
        for each in desk.fake.messages
        for lines in (each["content"].splitlines(),)
    ]


async def test_the_first_turn_for_people_comes_with_what_was_said_before(dsn: str) -> None:
    async with desk_at(dsn, Script(answer=person_or_bot), transcript=True) as desk:
        await says(desk, "wamid.1", "Where is my bag?")
        await says(desk, "wamid.2", "Hello?")
        await says(desk, "wamid.3", "A person, please")
        await says(desk, "wamid.4", "Is a person there?")

        assert shown(desk) == [
            (
                True,
                f"{HEADING}\nCustomer: Where is my bag?\nBot: you said: Where is my bag?\n{MORE}",
            ),
            (False, "A person, please"),
            (False, "Is a person there?"),
        ]
        await desk.heard()
        assert [said for _, said in await desk.to_customer()] == [
            "you said: Where is my bag?",
            "you said: Hello?",
        ], "the note is not taken for an answer"
        await says(desk, "wamid.5", "Will a person come?")
        assert shown(desk)[3:] == [(False, "Will a person come?")]


async def test_two_turns_before_the_first_arrives_leave_one_note(dsn: str) -> None:
    async with desk_at(dsn, Script(answer=person_or_bot), transcript=True) as desk:
        await says(desk, "wamid.1", "Hello")
        for wamid in ("wamid.2", "wamid.3"):
            await desk.talk.hear(wamid, text={"body": "A person"})
            await desk.talk.turn()
        desk.fake.faults = ["drop after"]  # the note arrives, and nobody says so
        await desk.deliver()

        assert [private for private, _ in shown(desk)] == [True, False, False]


async def test_after_it_was_resolved_the_note_tells_what_came_since(dsn: str) -> None:
    async with desk_at(dsn, Script(answer=person_or_bot), transcript=True) as desk:
        await says(desk, "wamid.1", "Hello")
        await says(desk, "wamid.2", "A person")
        await desk.fake.change(1, assignee=AGENT)
        await desk.fake.change(1, status="resolved")
        await desk.heard()
        await says(desk, "wamid.3", "Thanks")
        before = len(desk.fake.messages)

        await says(desk, "wamid.4", "A person again")
        await says(desk, "wamid.5", "I want a person")

        assert shown(desk)[before:] == [
            (True, f"{HEADING}\nCustomer: Thanks\nBot: you said: Thanks"),
            (False, "A person again"),
            (False, "I want a person"),
        ]


@pytest.mark.parametrize(("wanted", "first"), [(False, "Hello"), (True, "A person")])
async def test_there_is_no_note_when_nothing_was_said_or_none_is_wanted(
    dsn: str, *, wanted: bool, first: str
) -> None:
    async with desk_at(dsn, Script(answer=person_or_bot), transcript=wanted) as desk:
        await says(desk, "wamid.1", first)
        await says(desk, "wamid.2", "A person")

        assert await desk.value(MARKED) == 0
        assert not any(private for private, _ in shown(desk))


async def test_where_chatwoot_has_the_number_there_is_no_note(dsn: str) -> None:
    async with desk_at(dsn, Script(answer=person_or_bot), api=False, transcript=True) as desk:
        number = desk.fake.begin()
        for words in ("Hello", "A person"):
            await desk.fake.write(number, words, kind="incoming")
            await desk.heard()
            await desk.talk.turn()

        assert await desk.value("select count(*) from waemitter.inbound_messages") == 2
        assert await desk.value(MARKED) == 0


async def test_what_came_late_stands_where_it_was_written(dsn: str) -> None:
    async with desk_at(dsn, Script(answer=person_or_bot), transcript=True) as desk:
        await says(desk, "wamid.1", "Hello")
        await says(desk, "wamid.0", "I have a question", ago=600)
        await says(desk, "wamid.2", "A person")

        _, note = shown(desk)[0]
        assert note.splitlines()[1:3] == ["Customer: I have a question", "Customer: Hello"]


async def test_the_newest_twenty_are_told(dsn: str) -> None:
    async with desk_at(dsn, Script(answer=person_or_bot), transcript=True) as desk:
        for n in range(12):
            await says(desk, f"wamid.{n}", f"word {n}")
        await says(desk, "wamid.last", "A person")

        _, note = shown(desk)[0]
        assert note.splitlines()[1:3] == ["Customer: word 2", "Bot: you said: word 2"]
        assert len(note.splitlines()) == 21


def entry(message: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"at": "2026-11-22T15:03:59.5+01:00", "from": "customer", "message": message} | more


@pytest.mark.parametrize(
    ("said", "line"),
    [
        (entry({"type": "text", "text": {"body": "a\n b"}}), "Customer: a b"),
        (entry({"type": "text", "text": {"body": "x" * 501}}), f"Customer: {'x' * 499}…"),
        (entry({"type": "image", "image": {"id": "1", "caption": "it"}}), "Customer: [image] it"),
        (
            entry({"type": "audio", "audio": {"id": "1"}}, **{"from": "colleague"}),
            "Colleague: [audio]",
        ),
        (
            entry({"type": "template", "template": {"name": "t"}}, **{"from": "us"}),
            "We: [template] t",
        ),
        (
            entry(
                {
                    "type": "interactive",
                    "interactive": {
                        "body": {"text": "Which?"},
                        "action": {"buttons": [{"reply": {"id": "1", "title": "This"}}]},
                    },
                },
                **{"from": "bot"},
            ),
            "Bot: Which?",
        ),
        (entry({"type": "contacts", "contacts": []}), "Customer: [contacts]"),
    ],
)
def test_each_message_is_a_line_with_its_time(said: dict[str, Any], line: str) -> None:
    post = post_of("transcript", {"transcript": {"messages": [said]}})

    assert post.private
    assert post.content == f"{HEADING}\n2026-11-22 14:03 UTC  {line}"
    assert len(line) <= LONGEST_LINE + len("Customer: ")
