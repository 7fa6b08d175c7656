"""One agent before the simulator's model, on a real database."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from tests.agents import bodies, customer, scene, spec
from waemitter.turns.agents.spec import Review
from waemitter.turns.turn import Contact, HandlerFailed


async def test_an_agent_answers_and_remembers(dsn: str) -> None:
    async with scene(dsn) as s:
        s.model.model.script([{"text": "Hello **Ada**"}, {"text": "A taxi, then."}])

        assert bodies(await s.says("hi")) == ["Hello *Ada*"]
        assert bodies(await s.says("a taxi")) == ["A taxi, then."]
        assert s.shown() == [
            ("system", "Be kind."),
            ("user", "hi"),
            ("assistant", "Hello **Ada**"),
            ("user", "a taxi"),
        ]


async def test_a_turn_that_is_tried_again_does_not_remember_itself(dsn: str) -> None:
    async with scene(dsn) as s:
        await s.says("hi", turn_id=7)
        await s.says("hi, and more", turn_id=7, attempt=2)
        assert s.shown() == [("system", "Be kind."), ("user", "hi, and more")]

        await s.says("next", turn_id=8)
        assert s.shown()[1:-1] == [
            ("user", "hi, and more"),
            ("assistant", "You wrote: hi, and more"),
        ]


async def test_a_human_s_words_are_in_the_context_of_every_agent(dsn: str) -> None:
    async with scene(dsn) as s:
        await s.says("hi")
        await s.connection.execute(
            "insert into waemitter.inbound_messages (conversation_id, whatsapp_message_id, message_type, payload)"
            " values ($1, 'wamid.1', 'text', '{\"text\": {\"body\": \"to a human\"}}')",
            s.conversation_id,
        )
        await s.connection.execute(
            "select waemitter.remember_human_reply($1, 'Bob here.')", s.conversation_id
        )
        await s.says("again")
        assert s.shown()[3:] == [
            ("user", "to a human"),
            ("assistant", "Bob here."),
            ("user", "again"),
        ]


async def test_what_a_colleague_writes_on_the_phone_is_in_the_context(dsn: str) -> None:
    async with scene(dsn) as s:
        await s.connection.execute("update waemitter.channels set phone_number_id = '111'")
        await s.connection.execute(
            "select waemitter.hear_echo(number => '111', wamid => 'wamid.e', wa_id => '14155550123', user_id => null,"
            ' message_type => \'text\', payload => \'{"text": {"body": "Bob here."}}\','
            " at => clock_timestamp(), takeover => interval '1 hour')"
        )
        await s.says("hi")
        assert s.shown()[1:] == [("assistant", "Bob here."), ("user", "hi")]


async def test_what_is_forgotten_is_gone_for_good(dsn: str) -> None:
    async with scene(dsn) as s:
        await s.says("my secret")
        assert await s.store.forget(s.contact_id) == 1
        await s.says("and now")
        assert s.shown() == [("system", "Be kind."), ("user", "and now")]
        left = await s.connection.fetchval(
            "select count(*) from waemitter.agent_contexts where heard = 'my secret'"
        )
        named = await s.connection.fetchval(
            "select count(*) from waemitter.agent_sessions where contact_id is null"
        )
        assert (left, named) == (0, 1)


async def test_what_does_not_fit_is_summarised_once_and_kept_in_the_prompt(dsn: str) -> None:
    async with scene(dsn, spec(summary=True, max_context_tokens=60)) as s:
        for n in range(3):
            await s.says(f"question {n} " + "x" * 40)
        asked = s.model.model.count
        s.model.model.script([{"text": "Ada asked."}, {"text": "fine"}])
        await s.says("x" * 60)

        assert s.model.model.count == asked + 2
        assert s.shown()[0][1].endswith("Ada asked.")
        assert "question 0" in s.shown(-2)[1][1]
        await s.says("ok")
        assert s.shown()[0][1].endswith("Ada asked.")
        assert not any("question 0" in words for _, words in s.shown())


@pytest.mark.parametrize(
    ("step", "outcome"),
    [
        ({"status": 429, "retry_after": 0.01}, "rate_limited"),
        ({"status": 500}, "server"),
        ({"malformed": True}, "malformed"),
        ({"text": ""}, "malformed"),
        ({"hang": True}, "timeout"),
        ({"drip": 0.05}, "timeout"),
    ],
)
async def test_a_fault_is_retried_and_counted(dsn: str, step: dict[str, Any], outcome: str) -> None:
    async with scene(dsn, spec(request_timeout=0.4)) as s:
        s.model.model.script([step, {"text": "At last."}])

        assert bodies(await s.says("hi")) == ["At last."]
        assert s.model.model.count == 2
        value = s.observed.value("agent_requests_total", agent="assistant", outcome=outcome)
        assert value == 1
        assert (await s.session())["calls"] == 2
        assert s.observed.lines("AGENT_RETRIED")[0]["fault"] == outcome


async def test_a_retry_after_beyond_the_time_left_is_not_waited_for(dsn: str) -> None:
    async with scene(dsn, spec(timeout=5.0)) as s:
        s.model.model.script([{"status": 429, "retry_after": 60}])
        with pytest.raises(HandlerFailed, match="429") as raised:
            await s.says("hi")
        assert raised.value.retry
        assert s.model.model.count == 1


async def test_a_refused_request_is_not_repeated(dsn: str) -> None:
    async with scene(dsn) as s:
        s.model.model.script([{"status": 401}])
        with pytest.raises(HandlerFailed, match=r"401 \(invalid_api_key\)") as raised:
            await s.says("hi")
        assert not raised.value.retry
        assert s.model.model.count == 1


@pytest.mark.parametrize(
    ("more", "texts", "handover", "instead"),
    [
        ({"fallback_text": "Later, please."}, ["Later, please."], False, "text"),
        ({"handover_on_failure": True}, [], True, "handover"),
        (
            {"fallback_text": "A human comes.", "handover_on_failure": True},
            ["A human comes."],
            True,
            "handover",
        ),
    ],
)
async def test_without_an_answer_the_fallback_is_said_or_a_human_called(
    dsn: str, more: dict[str, Any], texts: list[str], *, handover: bool, instead: str
) -> None:
    async with scene(dsn, spec(retries=0, **more)) as s:
        s.model.model.script([{"status": 500}])
        answer = await s.says("hi")

        assert (bodies(answer), answer.handover) == (texts, handover)
        session = await s.session()
        assert (session["outcome"], session["error"]) == (
            "fallback",
            "server: the endpoint answered 500",
        )
        assert s.observed.lines("AGENT_UNANSWERED")[0]["instead"] == instead
        # A fallback is no part of the conversation.
        await s.says("again")
        assert s.shown() == [("system", "Be kind."), ("user", "again")]


async def test_an_endpoint_that_fails_is_left_alone_and_the_fallback_comes_at_once(
    dsn: str,
) -> None:
    async with scene(dsn, spec(retries=0, fallback_text="Later.")) as s:
        s.model.model.script([{"status": 503}] * 20)
        for n in range(8):
            assert bodies(await s.says(f"try {n}")) == ["Later."]
        assert s.model.model.count == 5
        assert (
            s.observed.value("agent_requests_total", agent="assistant", outcome="circuit_open") == 3
        )


async def test_the_model_may_call_a_human(dsn: str) -> None:
    async with scene(dsn, spec(handover_word="[human]")) as s:
        s.model.model.script([{"text": "I fetch somebody. [human]"}])
        answer = await s.says("I am angry")
        assert (bodies(answer), answer.handover) == (["I fetch somebody."], True)
        assert (await s.session())["handover"]


async def test_a_long_reply_is_several_messages(dsn: str) -> None:
    async with scene(dsn) as s:
        s.model.model.script([{"text": "This sentence has exactly forty letters. " * 220}])
        answer = await s.says("tell me all")
        assert [len(body) <= 4096 and body.endswith(".") for body in bodies(answer)] == [True] * 3


@pytest.mark.parametrize(
    ("mode", "verdict", "texts", "result"),
    [
        ("rewrite", {"text": "Better."}, ["Better."], "rewritten"),
        ("rewrite", {"text": "Draft."}, ["Draft."], "kept"),
        ("reject", {"text": "OK"}, ["Draft."], "kept"),
        ("reject", {"text": "It promises too much."}, ["Later."], "rejected"),
        ("rewrite", {"status": 400}, ["Draft."], "skipped"),
    ],
)
async def test_a_draft_is_looked_at_while_the_flag_is_on(
    dsn: str, mode: Any, verdict: dict[str, Any], texts: list[str], result: str
) -> None:
    review = Review(mode=mode, prompt="Is this fine?", model="m-2")
    async with scene(dsn, spec(review=review, fallback_text="Later.")) as s:
        await s.connection.execute(
            "update waemitter.feature_flags set is_enabled = true where flag_name = 'response_quality_enhancement'"
        )
        s.model.model.script([{"text": "Draft."}, verdict])
        assert bodies(await s.says("hi")) == texts

        assert s.model.model.requests[-1]["model"] == "m-2"
        assert s.shown()[1][1].endswith("Draft.")
        assert (await s.session())["review"] == result
        assert s.observed.value("agent_reviews_total", agent="assistant", result=result) == 1


async def test_no_draft_is_looked_at_while_the_flag_is_off(dsn: str) -> None:
    async with scene(dsn, spec(review=Review(mode="rewrite", prompt="Is this fine?"))) as s:
        await s.connection.execute(
            "update waemitter.feature_flags set is_enabled = false where flag_name = 'response_quality_enhancement'"
        )
        await s.says("hi")
        assert s.model.model.count == 1


async def test_prompts_and_replies_never_reach_the_log(dsn: str) -> None:
    async with scene(dsn, spec(retries=1, fallback_text="canary-fallback")) as s:
        s.model.model.script(
            [{"status": 500}, {"text": "canary-reply"}, {"status": 400}, {"malformed": True}] * 2
        )
        for _ in range(3):
            await s.says("canary-question")
        assert s.observed.lines("AGENT_RETRIED")
        assert s.observed.lines("AGENT_UNANSWERED")
        assert "canary" not in s.observed.text()


async def test_contacts_that_turn_out_to_be_one_keep_both_memories(dsn: str) -> None:
    async with scene(dsn) as s:
        other, _ = await customer(s.connection, "4915112345678")
        await s.says("from one", contact=Contact(other, None, None, None, None))
        await s.says("from the other")
        kept = await s.connection.fetchval(
            "select waemitter.join_contacts($1)", [s.contact_id, other]
        )
        await s.says("now", contact=Contact(kept, None, None, None, None))
        assert [words for role, words in s.shown() if role == "user"] == [
            "from one",
            "from the other",
            "now",
        ]


def test_nothing_imports_openai_until_an_agent_is_configured() -> None:
    code = (
        "import sys, pkgutil, importlib, waemitter\n"
        "for each in pkgutil.walk_packages(waemitter.__path__, 'waemitter.'):\n"
        "    if not each.name.endswith('__main__'): importlib.import_module(each.name)\n"
        "print([name for name in sys.modules if name.partition('.')[0] in ('openai', 'tiktoken', 'httpx2')])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
