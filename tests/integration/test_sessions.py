"""A session has several writers: turns, and late answers in between. Each changes what it means to change, and nothing else."""

from __future__ import annotations

import datetime
from typing import Any

import orjson
import pytest

from tests.turns_bench import Talk, talking, text
from waemitter.turns.replies.store import ReplyStore
from waemitter.turns.turn import Answer, Session, Turn

BEGUN = Session("rides", {"from": "airport", "seats": 1})


async def late(talk: Talk, session: dict[str, Any]) -> None:
    store = ReplyStore(
        talk.pool, session_ttl=datetime.timedelta(days=1), takeover=datetime.timedelta(hours=1)
    )
    replied = await store.reply(
        await talk.value("select id from waemitter.conversations"),
        messages=[text("Your driver is Bob.")],
        session=session,
        handover=False,
        idempotency_key=None,
        correlation_id="c-1",
    )
    assert replied.result == "replied"


async def kept(talk: Talk) -> Session:
    row = await talk.pool.fetchrow("select active_service, context from waemitter.user_sessions")
    assert row is not None
    return Session(row[0], orjson.loads(row[1]))


@pytest.mark.parametrize(
    ("answered", "meanwhile", "after"),
    [
        # the turn says nothing of the session
        (None, {"context": {"driver": "Bob"}}, Session("rides", {"driver": "Bob"})),
        # it changes one key: the others are the late answer's
        (
            Session("rides", {"from": "airport", "seats": 2}),
            {"context": {"from": "airport", "seats": 1, "driver": "Bob"}},
            Session("rides", {"from": "airport", "seats": 2, "driver": "Bob"}),
        ),
        # it removes one
        (
            Session("rides", {"from": "airport"}),
            {"context": {"from": "station", "seats": 1}},
            Session("rides", {"from": "station"}),
        ),
        # both change the same: the turn knows what was written last
        (
            Session("bus", {"from": "harbour", "seats": 1}),
            {"active_service": "taxi", "context": {"from": "station", "seats": 1}},
            Session("bus", {"from": "harbour", "seats": 1}),
        ),
        # the late answer ends it, and the turn left the service alone
        (
            Session("rides", {"from": "airport", "seats": 3}),
            {"active_service": None},
            Session(None, {"from": "airport", "seats": 3}),
        ),
        # the turn ends it
        (Session(), {"context": {"driver": "Bob"}}, Session(None, {"driver": "Bob"})),
    ],
)
async def test_what_a_late_answer_wrote_outlives_the_turn_in_progress(
    dsn: str, answered: Session | None, meanwhile: dict[str, Any], after: Session
) -> None:
    async with talking(dsn) as talk:

        async def begin(_: Turn) -> Answer:
            return Answer(session=BEGUN)

        async def go_on(turn: Turn) -> Answer:
            assert turn.session == BEGUN
            await late(talk, meanwhile)
            return Answer(session=answered)

        talk.script.answer = begin
        await talk.hear("wamid.1")
        await talk.turn()
        talk.script.answer = go_on
        await talk.hear("wamid.2")
        await talk.turn()

        assert await kept(talk) == after


async def test_without_anybody_between_the_handler_s_word_is_the_session(dsn: str) -> None:
    async with talking(dsn) as talk:
        for session in (BEGUN, Session("rides", {"seats": 2})):

            async def answer(_: Turn, session: Session = session) -> Answer:
                return Answer(session=session)

            talk.script.answer = answer
            await talk.hear(f"wamid.{session.context['seats']}")
            await talk.turn()

        assert await kept(talk) == Session("rides", {"seats": 2})


@pytest.mark.parametrize("by", ["turn", "late answer"])
async def test_a_session_that_is_over_does_not_come_back(dsn: str, by: str) -> None:
    async with talking(dsn) as talk:

        async def begin(_: Turn) -> Answer:
            return Answer(session=BEGUN)

        talk.script.answer = begin
        await talk.hear("wamid.1")
        await talk.turn()
        await talk.pool.execute(
            "update waemitter.user_sessions set last_interaction = now() - interval '25 hours'"
        )
        if by == "turn":
            talk.script.answer = None
            await talk.hear("wamid.2")
            await talk.turn()
        else:
            await late(talk, {"context": {"driver": "Bob"}})

        assert await kept(talk) == (Session() if by == "turn" else Session(None, {"driver": "Bob"}))


async def test_a_session_that_was_alive_when_its_turn_began_stays_what_it_was(dsn: str) -> None:
    async with talking(dsn) as talk:

        async def begin(_: Turn) -> Answer:
            return Answer(session=BEGUN)

        async def outlast(_: Turn) -> Answer:
            await talk.pool.execute(
                "update waemitter.user_sessions set last_interaction = now() - interval '25 hours'"
            )
            return Answer()

        talk.script.answer = begin
        await talk.hear("wamid.1")
        await talk.turn()
        talk.script.answer = outlast
        await talk.hear("wamid.2")
        await talk.turn()

        assert await kept(talk) == BEGUN
