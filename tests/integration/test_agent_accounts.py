"""What an agent uses, and how its variants compare: tokens, costs, budgets."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from datetime import timedelta
from decimal import Decimal

import pytest

from tests.agents import Scene, bodies, customer, scene, spec, variant
from tests.support import eventually
from waemitter.turns.agents.agent import Bill
from waemitter.turns.agents.store import Ended
from waemitter.turns.turn import Answer, Contact, Turn


async def test_tokens_and_costs_are_the_server_s_count(dsn: str) -> None:
    priced = variant(input_price=Decimal("0.15"), output_price=Decimal("0.6"))
    async with scene(dsn, spec(variants=[priced])) as s:
        usage = {"prompt_tokens": 2000, "completion_tokens": 500}
        s.model.model.script([{"text": "ok", "usage": usage}])
        await s.says("hi")

        session = await s.session()
        assert (session["input_tokens"], session["output_tokens"]) == (2000, 500)
        assert session["cost"] == Decimal("0.0006")
        assert s.observed.value("agent_tokens_total", agent="assistant", direction="input") == 2000
        assert await s.used(s.contact_id) == await s.used(0) == 2500
        view = await s.connection.fetchrow("select * from waemitter.webhook_agent_performance")
        assert view is not None
        assert (view["agent"], view["turns"], view["input_tokens"]) == ("assistant", 1, 2000)


async def test_without_the_server_s_count_ours_stands(dsn: str) -> None:
    async with scene(dsn) as s:
        s.model.model.script([{"text": "four letters", "usage": None}])
        await s.says("hi")
        assert (await s.session())["output_tokens"] == 3


async def test_a_spent_budget_is_said_and_no_model_asked(dsn: str) -> None:
    async with scene(dsn, spec(tokens_per_contact=900, refusal_text="No more today.")) as s:
        s.model.model.script(
            [{"text": "ok", "usage": {"prompt_tokens": 600, "completion_tokens": 9}}]
        )
        assert bodies(await s.says("hi")) == ["ok"]
        assert bodies(await s.says("more")) == ["No more today."]

        assert s.model.model.count == 1
        assert (await s.session())["error"] == "budget: contact"
        assert await s.used(0) == 609
        assert (
            s.observed.value("agent_requests_total", agent="assistant", outcome="over_budget") == 1
        )
        assert s.observed.lines("AGENT_OVER_BUDGET")[0]["budget"] == "contact"


async def test_no_number_of_turns_at_once_exceeds_the_day_s_budget(dsn: str) -> None:
    usage = {"prompt_tokens": 500, "completion_tokens": 500}
    small = variant(max_reply_tokens=980)
    async with scene(dsn, spec(variants=[small], tokens_per_day=5000)) as s:
        s.model.model.script([{"text": "ok", "usage": usage, "latency": 0.2}] * 40)
        people = [await customer(s.connection, f"1415555{n:04}") for n in range(40)]

        async def one(contact_id: int, conversation_id: int) -> Answer:
            contact = Contact(contact_id, None, None, None, None)
            return await s.says("hi", contact=contact, conversation_id=conversation_id)

        answers = await asyncio.gather(*(one(*each) for each in people))

        answered = sum(bodies(answer) == ["ok"] for answer in answers)
        assert 0 < answered <= 5
        assert await s.used(0) == answered * 1000


async def begin_all(
    s: Scene, turns: Sequence[Turn], *, per_day: int | None = None
) -> list[tuple[int, str | None]]:
    """At once, each with 100 tokens more than the one before: session and refusal."""
    return await asyncio.gather(
        *(
            s.store.begin(
                turn,
                agent="assistant",
                variant=variant(),
                estimate=100 * (n + 1),
                per_day=per_day,
                per_contact=None,
            )
            for n, turn in enumerate(turns)
        )
    )


async def end_all(s: Scene, ending: Sequence[tuple[Turn, int, int]]) -> None:
    """At once: turns, their sessions and the tokens that each used."""
    ends: list[Awaitable[None]] = []
    for turn, session, tokens in ending:
        ended = Ended(session=session, variant=variant(), heard="hi")
        ended.outcome, ended.said = "answered", "ho"
        ended.bill = Bill(calls=1, input_tokens=tokens, output_tokens=0)
        ends.append(s.store.end(turn, ended, took=1.0))
    await asyncio.gather(*ends)


async def test_turns_at_once_are_accounted_for_one_by_one(dsn: str) -> None:
    """Within the budgets by one statement for all; beside a lost attempt, or beyond a budget, in turn: with the same result."""
    async with scene(dsn) as s:
        people = [await customer(s.connection, f"1415555{n:04}") for n in range(3)]
        turns = [
            s.turn("hi", contact=Contact(who, None, None, None, None), conversation_id=talk)
            for who, talk in people
        ]
        assert [refusal for _, refusal in await begin_all(s, turns)] == [None, None, None]
        assert [await s.used(who) for who, _ in people] == [100, 200, 300]
        assert await s.used(0) == 600

        # again: each gives back what its first attempt had
        opened = await begin_all(s, turns, per_day=400)
        assert [refusal for _, refusal in opened] == ["day", "day", None]
        assert [await s.used(who) for who, _ in people] == [0, 0, 300]
        await end_all(s, [(turns[2], opened[2][0], 30)])
        assert await s.used(0) == 30

        opened = await begin_all(s, turns, per_day=400)  # too much for all of them together
        assert [refusal for _, refusal in opened] == [None, None, "day"]
        await end_all(s, [(turns[0], opened[0][0], 10), (turns[1], opened[1][0], 20)])
        assert [await s.used(who) for who, _ in people] == [10, 20, 30]
        assert await s.used(0) == 60
        rows = await s.connection.fetch(
            "select outcome, count(*) from waemitter.agent_sessions group by 1 order by 1"
        )
        assert [tuple(row) for row in rows] == [("answered", 3), ("lost", 3), ("refused", 3)]
        memories = await asyncio.gather(
            *(s.store.load("assistant", who, turn_id=0) for who, _ in people)
        )
        assert [[entry.said for entry in each.entries] for each in memories] == [["ho"]] * 3


async def test_a_cancelled_turn_gives_its_tokens_back(dsn: str) -> None:
    async with scene(dsn, spec(tokens_per_day=100_000)) as s:
        s.model.model.script([{"hang": True}])
        turn = asyncio.create_task(s.says("hi"))
        await eventually(lambda: s.model.model.count == 1)
        assert await s.used(0) > 500
        turn.cancel()
        with pytest.raises(asyncio.CancelledError):
            await turn
        assert await s.used(0) == 0
        assert (await s.session())["outcome"] == "lost"


async def test_what_a_dead_daemon_reserved_comes_back_with_the_next_attempt(dsn: str) -> None:
    async with scene(dsn, spec(tokens_per_day=100_000)) as s:
        turn = s.turn("hi")
        await s.store.begin(
            turn,
            agent="assistant",
            variant=variant(),
            estimate=90_000,
            per_day=None,
            per_contact=None,
        )
        assert bodies(await s.says("hi", turn_id=turn.turn_id, attempt=2)) == ["You wrote: hi"]
        assert 0 < await s.used(0) < 100


async def test_variants_are_compared_by_replies_handovers_latency_and_cost(dsn: str) -> None:
    both = [variant("a", model="m-a", output_price=Decimal(100)), variant("b", model="m-b")]
    async with scene(dsn, spec(variants=both, handover_word="[human]")) as s:
        people = [await customer(s.connection, f"1415556{n:04}") for n in range(12)]
        for contact_id, conversation_id in people:
            contact = Contact(contact_id, None, None, None, None)
            for _ in range(2):
                await s.says("hi", contact=contact, conversation_id=conversation_id)
        await s.connection.execute(
            "insert into waemitter.inbound_messages (conversation_id, whatsapp_message_id, message_type, payload)"
            " select distinct conversation_id, 'wamid.' || conversation_id, 'text', '{}'::jsonb"
            " from waemitter.agent_sessions where variant = 'a'"
        )
        asked: dict[str, set[str]] = {}
        rows = await s.connection.fetch("select contact_id, variant from waemitter.agent_sessions")
        for row in rows:
            asked.setdefault(row["contact_id"], set()).add(row["variant"])
        assert all(len(variants) == 1 for variants in asked.values())

        found = {
            row["variant"]: row for row in await s.store.compare("assistant", timedelta(days=7))
        }
        assert found.keys() == {"a", "b"}
        assert (found["a"]["reply_rate"], found["b"]["reply_rate"]) == (1, 0)
        assert found["a"]["cost"] > 0 == found["b"]["cost"]
        assert found["a"]["turns"] + found["b"]["turns"] == 24
