"""A person takes a conversation over, by function, API or command line; the bot is silent until he hands it back."""

from __future__ import annotations

import asyncio
import datetime
import json
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
from typer.testing import CliRunner, Result

from tests.shop import Shop, shop_at
from tests.turns_bench import talking
from waemitter.cli.main import app
from waemitter.turns.turn import Answer, Turn

CONVERSATION = """
    with c as (insert into waemitter.contacts (channel, wa_id, name) values ('default', '14155550123', 'Ada') returning id),
    a as (insert into waemitter.contact_addresses (channel, address, contact_id) select 'default', '14155550123', id from c)
    insert into waemitter.conversations (channel, contact_id) select 'default', id from c returning id
"""
HELLO = {"type": "text", "text": {"body": "This is Carol."}}
PAUSE = "select waemitter.take_over_conversation(1, {})"


@pytest.fixture
async def shop(dsn: str) -> AsyncIterator[Shop]:
    async with shop_at(dsn) as shop:
        await shop.outbox.pool.execute(CONVERSATION)
        yield shop


async def transitions(pool: asyncpg.Pool[asyncpg.Record]) -> list[tuple[str, str, str]]:
    rows = await pool.fetch(
        "select from_status, to_status, reason from waemitter.conversation_state_transitions order by id"
    )
    return [tuple(row) for row in rows]


async def test_a_turn_in_progress_ends_without_an_answer_and_the_next_ones_too(dsn: str) -> None:
    async with talking(dsn) as talk:

        async def answer(_: Turn) -> Answer:
            assert await talk.value(PAUSE.format("interval '1 hour'"))
            return Answer(messages=[HELLO])

        talk.script.answer = answer
        await talk.hear("wamid.1")
        await talk.turn()
        await talk.hear("wamid.2")
        await talk.turn()

        assert (await talk.replies(), len(talk.script.turns)) == ([], 1)
        assert await talk.status() == "human"
        talk.script.answer = None
        assert await talk.value("select waemitter.hand_back_conversation(1)")
        assert await talk.status() == "idle"
        await talk.hear("wamid.3")
        await talk.turn()
        assert await talk.replies() == ["you said: hello"]


async def test_the_daemon_answers_again_when_the_time_is_over(dsn: str) -> None:
    async with talking(dsn) as talk:
        await talk.hear("wamid.1")
        await talk.turn()
        await talk.value(PAUSE.format("interval '1 hour', 'lunch'"))
        await talk.pool.execute(
            "update waemitter.conversations set takeover_until = now() - interval '1 second'"
        )
        await talk.pool.execute("select waemitter.cleanup_stuck_webhook_conversations()")

        assert await talk.status() == "idle"
        assert (await transitions(talk.pool))[-2:] == [
            ("idle", "human", "lunch"),
            ("human", "idle", "its time with a human is over"),
        ]
        await talk.hear("wamid.2")
        await talk.turn()
        assert len(await talk.replies()) == 2


async def test_a_longer_takeover_is_only_shortened_by_hand(dsn: str) -> None:
    async with talking(dsn) as talk:
        await talk.hear("wamid.1")
        hours = "select round(extract(epoch from takeover_until - now()) / 3600) from waemitter.conversations"
        await talk.value(PAUSE.format("interval '8 hours'"))
        await talk.value(PAUSE.format("interval '1 hour', extend => true"))
        assert await talk.value(hours) == 8
        await talk.value(PAUSE.format("interval '1 hour'"))
        assert await talk.value(hours) == 1
        assert await talk.value(f"{PAUSE.format('null')} = 'infinity'")


async def test_a_lock_that_is_taken_away_leaves_one_answer(dsn: str) -> None:
    async with talking(dsn) as talk:

        async def answer(_: Turn) -> Answer:
            talk.script.answer = None
            assert await talk.value("select waemitter.unlock_conversation(1)")
            assert not await talk.value("select waemitter.unlock_conversation(1)")
            return Answer(messages=[HELLO])

        talk.script.answer = answer
        await talk.hear("wamid.1")
        await talk.due()

        assert await talk.work() == 2
        assert await talk.replies() == ["you said: hello"]
        assert talk.bench.observed.value("turns_total", route="none", outcome="lost") == 1


async def test_by_the_api(shop: Shop) -> None:
    code, found = await shop.call(
        "POST", "/api/conversations/1/pause", {"seconds": 60, "reason": "Carol"}
    )
    until = datetime.datetime.fromisoformat(found["takeoverUntil"])
    assert (code, found["status"], found["human"]) == (200, "human", True)
    assert (
        datetime.timedelta()
        < until - datetime.datetime.now(datetime.UTC)
        <= datetime.timedelta(minutes=1)
    )
    assert found["transitions"][0]["reason"] == "Carol"

    _, found = await shop.call("POST", "/api/conversations/1/pause", {"untilResumed": True})
    assert (found["human"], found["takeoverUntil"]) == (True, None)
    _, page = await shop.call(
        "GET", "/api/conversations?status=human&contact=%2B1%20415%20555%200123"
    )
    assert [each["id"] for each in page["conversations"]] == [1]

    code, found = await shop.call("POST", "/api/conversations/1/resume")
    assert (code, found["status"], found["human"]) == (200, "idle", False)
    code, problem = await shop.call("POST", "/api/conversations/1/resume")
    assert (code, problem["detail"]) == (409, "Conversation 1: no person has it.")
    assert await shop.call("GET", "/api/conversations?status=human") == (
        200,
        {"conversations": [], "nextCursor": None},
    )
    audited = await shop.outbox.pool.fetch("select action from waemitter.audit_log order by id")
    assert [row[0] for row in audited][:1] == ["pauseConversation"]


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [("GET", "", None), ("POST", "/pause", {}), ("POST", "/resume", None)],
)
async def test_a_conversation_that_is_not_there(
    shop: Shop, method: str, path: str, body: Any
) -> None:
    code, problem = await shop.call(method, f"/api/conversations/99{path}", body)

    assert (code, problem["detail"]) == (404, "There is no conversation 99.")


async def test_what_a_person_says_is_sent_and_remembered_by_agents(shop: Shop) -> None:
    path = "/api/conversations/1/reply"
    body = {"messages": [HELLO], "human": True}
    assert (await shop.call("POST", "/api/conversations/1/pause", {"seconds": 1e6}))[0] == 200

    code, _ = await shop.call("POST", path, body, Idempotency_Key="k")
    assert code == 201
    assert (await shop.call("POST", path, body, Idempotency_Key="k"))[0] == 200
    assert (await shop.call("POST", path, {"messages": [HELLO]}))[0] == 409

    assert await shop.count() == 1
    said = await shop.outbox.pool.fetch("select kind, said from waemitter.agent_contexts")
    assert [tuple(row) for row in said] == [("human", "This is Carol.")]
    assert await shop.outbox.pool.fetchval(
        "select takeover_until > now() + interval '10 days' from waemitter.conversations"
    )


async def test_one_conversation_is_shown_with_what_was_said(shop: Shop) -> None:
    await shop.outbox.pool.execute(
        "insert into waemitter.inbound_messages (conversation_id, whatsapp_message_id, message_type, payload)"
        " values (1, 'wamid.1', 'text', '{\"text\": {\"body\": \"Hi\"}}')"
    )
    begun = {"session": {"active_service": "rides", "context": {"seats": 1}}}
    assert (await shop.call("POST", "/api/conversations/1/reply", begun))[0] == 200

    _, found = await shop.call("GET", "/api/conversations/1")

    assert [each["direction"] for each in found["messages"]] == ["in"]
    assert found["messages"][0]["payload"] == {"text": {"body": "Hi"}}
    assert found["session"] == {"activeService": "rides", "context": {"seats": 1}}
    assert (found["contact"], found["name"]) == ("+14155550123", "Ada")


@pytest.fixture
def run(dsn: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("DATABASE_URL", dsn)

    async def prepare() -> None:
        connection = await asyncpg.connect(dsn)
        await connection.execute(CONVERSATION)
        await connection.close()

    asyncio.run(prepare())

    def run(*arguments: str) -> Result:
        return CliRunner().invoke(app, ["conversation", *arguments])

    return run


def test_by_the_command_line(run: Any) -> None:
    (listed,) = json.loads(run("list", "--json").stdout)
    assert (listed["id"], listed["status"]) == (1, "idle")
    assert run("pause", "1", "--for", "2h").stdout.startswith("conversation 1 is a person's until ")
    assert run("list", "--status", "human").stdout.split("\t")[2] == "human"
    assert run("reply", "1", "--text", "This is Carol.", "--idempotency-key", "k").stdout == "1\n"
    assert (
        json.loads(run("reply", "1", "--text", "x", "--idempotency-key", "k", "--json").stdout)[
            "result"
        ]
        == "known"
    )
    assert run("resume", "1").stdout == "conversation 1 is resumed\n"
    assert run("pause", "1").stdout == "conversation 1 is a person's until it is resumed\n"
    shown = json.loads(run("show", "1", "--json").stdout)
    assert (shown["human"], shown["takeover_until"]) == (True, None)
    assert "human\tTrue\n" in run("show", "1").stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ("show", "9"),
        ("pause", "9"),
        ("resume", "9"),
        ("unlock", "9"),
        ("reply", "9", "--text", "x"),
    ],
)
def test_the_command_line_without_effect(run: Any, arguments: tuple[str, ...]) -> None:
    told = run(*arguments)
    assert (told.exit_code, "there is no" in told.stderr) == (1, True)
