"""What a model may ask: services of the settings, with the arguments of their schemas, for so long and so often."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from tests.agents import Scene, bodies, scene, spec
from tests.handlers import Answering, Service, saying, serving_answers
from waemitter.runtime.breaker import THRESHOLD
from waemitter.turns.agents.spec import Tool
from waemitter.turns.agents.toolbox import LONGEST_RESULT, MOST_AT_ONCE
from waemitter.turns.turn import HandlerFailed

SCHEMA = {
    "type": "object",
    "properties": {"order": {"type": "integer"}},
    "required": ["order"],
    "additionalProperties": False,
}
ASKED = {"tool_calls": [{"name": "order_status", "arguments": {"order": 17}}]}


@asynccontextmanager
async def shop(
    dsn: str, answer: Answering, *, timeout: float = 5.0, **more: Any
) -> AsyncIterator[tuple[Scene, Service]]:
    async with serving_answers(answer) as service:
        tool = Tool(
            name="order_status",
            description="Where an order is.",
            url=f"{service.address}/orders",
            parameters=SCHEMA,
            timeout=timeout,
            key=b"s3cret",
        )
        async with scene(dsn, spec(tools=[tool], **more)) as s:
            yield s, service


async def test_a_model_asks_a_service_and_answers_with_what_it_said(dsn: str) -> None:
    async with shop(dsn, saying(json={"status": "on its way"})) as (s, service):
        s.model.model.script([ASKED, {"text": "It is on its way."}])

        assert bodies(await s.says("where is my order 17?")) == ["It is on its way."]

        ((request, body),) = service.asked
        assert json.loads(body) == {
            "tool": "order_status",
            "arguments": {"order": 17},
            "turn_id": 1,
            "attempt": 1,
            "channel": "default",
            "conversation_id": s.conversation_id,
            "contact": {
                "id": s.contact_id,
                "wa_id": "14155550123",
                "user_id": None,
                "phone": "+14155550123",
                "name": "Ada",
            },
        }
        signed = b"tool_1_1_1.1795300000." + body
        digest = b64encode(hmac.new(b"s3cret", signed, hashlib.sha256).digest()).decode()
        assert request.headers["webhook-signature"] == f"v1,{digest}"
        first, second = s.model.model.requests
        assert first["tools"][0]["function"] == {
            "name": "order_status",
            "description": "Where an order is.",
            "parameters": SCHEMA,
        }
        assert first["tool_choice"] == "auto"
        assert [message["role"] for message in second["messages"]] == [
            *("system", "user", "assistant", "tool"),
        ]
        assert second["messages"][-1]["content"] == '{"status": "on its way"}'
        assert (
            second["messages"][-1]["tool_call_id"] == second["messages"][-2]["tool_calls"][0]["id"]
        )
        row = await s.session()
        assert (row["calls"], row["tool_calls"]) == (2, 1)
        assert s.observed.value(
            "agent_tool_calls_total", agent="assistant", tool="order_status", outcome="ok"
        )


@pytest.mark.parametrize(
    ("call", "told", "outcome"),
    [
        (
            {"arguments": {"order": "x"}},
            "Error: $.order: 'x' is not of type 'integer'.",
            "wrong_arguments",
        ),
        ({"arguments": {}}, "Error: $: 'order' is a required property.", "wrong_arguments"),
        ({"arguments": "{"}, "Error: the arguments are no JSON.", "wrong_arguments"),
        ({"name": "rm"}, "Error: there is no tool 'rm'.", "unknown"),
    ],
)
async def test_nothing_is_asked_that_the_settings_do_not_allow(
    dsn: str, call: dict[str, Any], told: str, outcome: str
) -> None:
    async with shop(dsn, saying()) as (s, service):
        s.model.model.script([{"tool_calls": [ASKED["tool_calls"][0] | call]}, {"text": "Sorry."}])

        assert bodies(await s.says("where?")) == ["Sorry."]

        assert service.asked == []
        assert s.model.model.requests[-1]["messages"][-1]["content"] == told
        tool = "unknown" if outcome == "unknown" else "order_status"
        assert s.observed.value(
            "agent_tool_calls_total", agent="assistant", tool=tool, outcome=outcome
        )


async def redirect(_: web.Request) -> web.Response:
    raise web.HTTPTemporaryRedirect("/elsewhere")


@pytest.mark.parametrize(
    ("answer", "told", "outcome"),
    [
        (saying(status=503, text="s3cret"), "Error: the service answered 503.", "failed"),
        (
            saying(status=404, text="no order 17"),
            "Error: the service answered 404. no order 17",
            "refused",
        ),
        (redirect, "Error: the service answered 307. 307: Temporary Redirect", "refused"),
        (saying(status=204), "Done.", "ok"),
        (saying(text="x" * 20_000), "x" * LONGEST_RESULT + " … (cut)", "ok"),
    ],
)
async def test_whatever_a_service_answers_the_model_is_told_and_the_turn_goes_on(
    dsn: str, answer: Answering, told: str, outcome: str
) -> None:
    async with shop(dsn, answer) as (s, service):
        s.model.model.script([ASKED, {"text": "So be it."}])

        assert bodies(await s.says("where?")) == ["So be it."]

        assert len(service.asked) == 1
        assert s.model.model.requests[-1]["messages"][-1]["content"] == told
        assert s.observed.value(
            "agent_tool_calls_total", agent="assistant", tool="order_status", outcome=outcome
        )


async def test_a_service_has_its_time(dsn: str) -> None:
    async def hang(_: web.Request) -> web.Response:
        await asyncio.Event().wait()
        raise AssertionError

    async with shop(dsn, hang, timeout=0.05) as (s, service):
        s.model.model.script([ASKED, {"text": "Later."}])

        assert bodies(await s.says("where?")) == ["Later."]

        assert len(service.asked) == 1
        told = s.model.model.requests[-1]["messages"][-1]["content"]
        assert told == "Error: the service did not answer in time."


async def test_after_its_rounds_the_model_must_answer(dsn: str) -> None:
    async with shop(dsn, saying(text="still packing"), tool_rounds=2) as (s, service):
        s.model.model.script([ASKED, ASKED, {"text": "They are packing."}])

        assert bodies(await s.says("where?")) == ["They are packing."]

        choices = [request["tool_choice"] for request in s.model.model.requests]
        assert choices == ["auto", "auto", "none"]
        assert len(service.asked) == 2
        ids = [request.headers["webhook-id"] for request, _ in service.asked]
        assert ids == ["tool_1_1_1", "tool_1_1_2"]


async def test_a_model_that_never_stops_asking_has_no_answer(dsn: str) -> None:
    async with shop(dsn, saying(text="still packing"), tool_rounds=1) as (s, service):
        s.model.model.script([ASKED, ASKED])

        with pytest.raises(HandlerFailed, match="asked tools to the end"):
            await s.says("where?")

        assert len(service.asked) == 1


async def test_a_flood_of_calls_is_bounded(dsn: str) -> None:
    flood = {"tool_calls": ASKED["tool_calls"] * (MOST_AT_ONCE + 3)}
    async with shop(dsn, saying(text="fine")) as (s, service):
        s.model.model.script([flood, {"text": "Fine."}])

        assert bodies(await s.says("where?")) == ["Fine."]

        assert len(service.asked) == MOST_AT_ONCE
        answers = [
            each for each in s.model.model.requests[-1]["messages"] if each["role"] == "tool"
        ]
        assert len(answers) == MOST_AT_ONCE + 3
        assert answers[-1]["content"].startswith("Error: no more than 8")


async def test_a_service_that_is_down_is_left_alone(dsn: str) -> None:
    async with shop(dsn, saying(status=500)) as (s, service):
        s.model.model.script([ASKED, {"text": "No."}] * (THRESHOLD + 1))
        for _ in range(THRESHOLD + 1):
            await s.says("where?")

        assert len(service.asked) == THRESHOLD
        told = s.model.model.requests[-1]["messages"][-1]["content"]
        assert told == "Error: the service is not available at the moment."


async def test_rounds_of_tools_are_part_of_what_a_turn_reserves(dsn: str) -> None:
    async with shop(dsn, saying(text="fine"), tokens_per_contact=2000) as (s, service):
        s.model.model.script([{"text": "never"}])

        await s.says("where?")  # four requests of 500 tokens and more: too many

        assert (await s.session())["outcome"] == "refused"
        assert s.model.model.count == 0
        assert service.asked == []


async def test_arguments_and_results_never_reach_the_log(dsn: str) -> None:
    canary = {"tool_calls": [{"name": "canary-name", "arguments": {"order": "canary-argument"}}]}
    async with shop(dsn, saying(status=400, text="canary-result")) as (s, _):
        s.model.model.script([canary, ASKED, {"text": "No."}])
        await s.says("where?")
        assert len(s.observed.lines("AGENT_TOOL_CALLED")) == 2
        assert "canary" not in s.observed.text()
