from __future__ import annotations

import json
from typing import Any

import aiohttp
import pytest

from tests.simulator.conftest import Client

ASKED = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


async def ask(client: Client, **more: Any) -> tuple[int, Any]:
    async with client.session.post(
        f"{client.meta.model_url}/chat/completions", json={**ASKED, **more}
    ) as answer:
        return answer.status, await answer.json()


async def test_without_a_script_the_model_repeats_what_it_was_shown(client: Client) -> None:
    status, body = await ask(client)

    assert status == 200
    assert body["choices"][0]["message"]["content"] == "You wrote: hi"
    assert body["usage"]["total_tokens"] == (
        body["usage"]["prompt_tokens"] + body["usage"]["completion_tokens"]
    )


async def test_a_script_is_followed_step_by_step(client: Client) -> None:
    steps = [{"text": "one"}, {"status": 429, "retry_after": 2}, {"text": "two", "usage": None}]
    assert await client.control("POST", "/model", steps) == (200, {"waiting_steps": 3})

    assert (await ask(client))[1]["choices"][0]["message"]["content"] == "one"
    async with client.session.post(
        f"{client.meta.model_url}/chat/completions", json=ASKED
    ) as limited:
        assert (limited.status, limited.headers["Retry-After"]) == (429, "2")
        assert (await limited.json())["error"]["code"] == "rate_limit_exceeded"
    assert (await ask(client))[1]["usage"] is None
    _, told = await client.control("GET", "/model")
    assert (told["count"], told["waiting_steps"]) == (3, 0)
    assert told["requests"][0]["messages"] == ASKED["messages"]


async def test_a_malformed_answer_breaks_off(client: Client) -> None:
    client.meta.model.script([{"malformed": True}])
    with pytest.raises(json.JSONDecodeError):
        await ask(client)


async def test_a_stream_brings_the_words_one_by_one_and_the_usage_last(client: Client) -> None:
    client.meta.model.script([{"text": "three short words", "drip": 0.001}])
    async with client.session.post(
        f"{client.meta.model_url}/chat/completions", json={**ASKED, "stream": True}
    ) as answer:
        lines = [line async for line in answer.content if line.strip()]

    assert lines[-1].strip() == b"data: [DONE]"
    frames = [json.loads(line.removeprefix(b"data: ")) for line in lines[:-1]]
    words = [c["delta"].get("content", "") for frame in frames for c in frame["choices"]]
    assert "".join(words) == "three short words"
    assert frames[-1]["usage"]["completion_tokens"] > 0


async def test_a_slow_body_comes_in_pieces(client: Client) -> None:
    client.meta.model.script([{"text": "slow", "drip": 0.001}])
    assert (await ask(client))[1]["choices"][0]["message"]["content"] == "slow"


async def test_a_hanging_model_never_answers(client: Client) -> None:
    client.meta.model.script([{"hang": True}])
    with pytest.raises(TimeoutError):
        async with client.session.post(
            f"{client.meta.model_url}/chat/completions",
            json=ASKED,
            timeout=aiohttp.ClientTimeout(total=0.1),
        ):
            pass
    assert client.meta.model.count == 1


@pytest.mark.parametrize("body", [{}, {"messages": []}, {"messages": ["hi"]}])
async def test_a_question_that_is_none_is_refused(client: Client, body: dict[str, Any]) -> None:
    async with client.session.post(
        f"{client.meta.model_url}/chat/completions", json=body
    ) as answer:
        assert answer.status == 400


async def test_a_script_with_unknown_keys_is_refused(client: Client) -> None:
    status, body = await client.control("POST", "/model", [{"txt": "?"}])
    assert status == 400
    assert "text" in body["error"]
