from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from tests.agents import scene
from waemitter.cli.main import app
from waemitter.simulator import Options, Simulator

AGENT = "[agents.helper]\nmodel = 'm'\nsystem_prompt = 'Be kind.'\nretries = 0\nhandover_word = '[human]'\n"


def run(*arguments: str, given: str = "", **environ: str) -> Result:
    return CliRunner().invoke(app, ["agent", *arguments], input=given, env=environ)


@pytest.fixture(autouse=True)
def configured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("waemitter.toml").write_text(AGENT)


@pytest.fixture
def model() -> Iterator[Simulator]:
    """A simulator on a loop of its own: the command brings one too."""
    started, stop = threading.Event(), threading.Event()
    simulator = Simulator(Options())

    async def serve() -> None:
        async with simulator:
            started.set()
            await asyncio.to_thread(stop.wait)

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    assert started.wait(10)
    yield simulator
    stop.set()
    thread.join()


def test_a_chat_over_a_pipe_has_a_memory(model: Simulator) -> None:
    model.model.script([{"text": "**Hello**"}, {"text": "Bye. [human]"}])
    result = run("chat", "helper", given="hi\nbye\n", OPENAI_BASE_URL=model.model_url)

    assert result.exit_code == 0, result.output
    assert result.stdout == "*Hello*\n\nBye.\n\n(a human goes on from here)\n\n"
    assert [m["content"] for m in model.model.requests[-1]["messages"]] == [
        "Be kind.",
        "hi",
        "**Hello**",
        "bye",
    ]


def test_a_chat_as_json_tells_tokens_and_costs(model: Simulator) -> None:
    result = run("chat", "helper", "--json", given="hi\n", OPENAI_BASE_URL=model.model_url)
    found: dict[str, Any] = json.loads(result.stdout)
    assert found["messages"] == [{"type": "text", "text": {"body": "You wrote: hi"}}]
    assert found["input_tokens"] > 0


def test_a_message_without_an_answer_is_one_line_and_exit_1(model: Simulator) -> None:
    model.model.script([{"status": 500}])
    result = run("chat", "helper", given="hi\n", OPENAI_BASE_URL=model.model_url)
    assert result.exit_code == 1
    assert result.stderr == "waemitter: server: the endpoint answered 500\n"


def test_an_unknown_agent_or_variant_is_said_so() -> None:
    result = run("chat", "hepler")
    assert (result.exit_code, result.stderr) == (
        1,
        "waemitter: there is no agent 'hepler' in waemitter.toml (helper)\n",
    )
    assert "no variant 'x'" in run("chat", "helper", "--variant", "x", given="hi\n").stderr
    assert run("compare", "helper", "--since", "soon").exit_code == 2


async def test_variants_are_compared_and_contacts_forgotten(dsn: str) -> None:
    async with scene(dsn) as s:
        await s.says("hi")
        await s.connection.execute("update waemitter.agent_sessions set agent = 'helper'")
        contact = s.contact_id

    found = await asyncio.to_thread(run, "compare", "helper", "--json", DATABASE_URL=dsn)
    (row,) = json.loads(found.stdout)
    assert (row["variant"], row["turns"], row["failure_rate"]) == ("default", 1, "0.0000")

    gone = await asyncio.to_thread(run, "forget", str(contact), DATABASE_URL=dsn)
    assert gone.stdout == "1 exchange forgotten\n"
