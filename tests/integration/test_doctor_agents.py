"""What `waemitter doctor` finds of the endpoints that agents ask."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from tests.e2e.scene import free_port
from waemitter.ops.doctor import agents as checked
from waemitter.ops.doctor.agents import agent_findings
from waemitter.ops.doctor.finding import Finding
from waemitter.settings import load
from waemitter.simulator import Options, Simulator

TABLE = '[agents.{name}]\nmodel = "m"\nsystem_prompt = "Be kind."\n{more}\n'


async def found(
    folder: Path, *tables: str, url: str | None = None, **environ: str
) -> list[Finding]:
    file = folder / "waemitter.toml"
    file.write_text("".join(tables))
    named = {} if url is None else {"OPENAI_BASE_URL": url}
    settings = load(environ=named | environ, config=file).settings
    return [each async for each in agent_findings(settings)]


def table(name: str = "assistant", more: str = "") -> str:
    return TABLE.format(name=name, more=more)


@asynccontextmanager
async def endpoint(
    status: int, *, hangs: bool = False
) -> AsyncIterator[tuple[str, list[tuple[str, str | None]]]]:
    """Its address, and what it was asked: path and key."""
    asked: list[tuple[str, str | None]] = []
    closing = asyncio.Event()

    async def answer(request: web.Request) -> web.Response:
        asked.append((request.path, request.headers.get("Authorization")))
        if hangs:
            await closing.wait()
        return web.json_response({"error": {"message": "so"}}, status=status)

    app = web.Application()
    app.router.add_get("/v1/{rest:.*}", answer)
    async with TestServer(app) as server:
        yield str(server.make_url("/v1")), asked
        closing.set()


async def test_an_endpoint_that_lists_its_models_is_fine(tmp_path: Path) -> None:
    async with Simulator(Options(port=0)) as simulator:
        url = f"http://127.0.0.1:{simulator.port}/v1"
        [one] = await found(tmp_path, table(), url=url)
        place = url.split("/")[2]
    assert (one.verdict, one.said) == ("ok", f"assistant ({place}): its models are listed")


@pytest.mark.parametrize("status", [404, 405])
async def test_one_without_a_list_is_reachable(tmp_path: Path, status: int) -> None:
    async with endpoint(status) as (url, asked):
        [one] = await found(tmp_path, table(), url=url)
    assert (one.verdict, asked) == ("ok", [("/v1/models", "Bearer none")])
    assert f"it lists no models ({status})" in one.said


@pytest.mark.parametrize(
    ("status", "said", "remedy"),
    [
        (401, "it refuses the key (401)", "correct OPENAI_API_KEY"),
        (403, "it refuses the key (403)", "correct OPENAI_API_KEY"),
        (500, "it answers 500", "look at the endpoint, or correct OPENAI_BASE_URL"),
    ],
)
async def test_what_it_refuses_is_told_with_the_setting(
    tmp_path: Path, status: int, said: str, remedy: str
) -> None:
    async with endpoint(status) as (url, _):
        [one] = await found(tmp_path, table(), url=url, OPENAI_API_KEY="sk-1")
    assert (one.verdict, one.remedy) == ("problem", remedy)
    assert one.said.endswith(said)
    assert "sk-1" not in one.said


async def test_agents_that_share_an_endpoint_and_a_key_ask_once(tmp_path: Path) -> None:
    async with endpoint(401) as (url, asked):
        own = f'base_url = "{url}"\napi_key_env = "THEIRS"'
        findings = await found(
            tmp_path,
            *(table("one"), table("two"), table("three", own)),
            url=url,
            OPENAI_API_KEY="sk-1",
            THEIRS="sk-2",
        )
    assert asked == [("/v1/models", "Bearer sk-1"), ("/v1/models", "Bearer sk-2")]
    assert [(one.said.partition(" (")[0], one.remedy) for one in findings] == [
        ("one, two", "correct OPENAI_API_KEY"),
        ("three", "correct THEIRS"),
    ]


async def test_one_that_is_away_is_told(tmp_path: Path) -> None:
    own = f'base_url = "http://127.0.0.1:{free_port()}/v1"'
    [one] = await found(tmp_path, table(more=own))
    assert one.said.endswith("the endpoint cannot be reached")
    assert (one.verdict, one.remedy) == (
        "problem",
        "let this machine reach it, or correct agents.assistant.base_url",
    )


async def test_one_that_is_silent_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checked, "WITHIN", 1.0)
    async with endpoint(200, hangs=True) as (url, asked):
        [one] = await found(tmp_path, table(), url=url)
    assert asked, "it was asked, and did not answer"
    assert one.said.endswith("no answer within 1.0 s")
    assert (one.verdict, one.remedy) == (
        "problem",
        "let this machine reach it, or correct OPENAI_BASE_URL",
    )


async def test_a_password_in_an_address_is_not_shown(tmp_path: Path) -> None:
    [one] = await found(tmp_path, table(), url=f"http://ada:secret@127.0.0.1:{free_port()}/v1")
    assert one.verdict == "problem"
    assert "secret" not in f"{one.said} {one.remedy}"


async def test_without_the_package_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "openai", None)
    [one] = await found(tmp_path, table("one"), table("two", 'base_url = "http://127.0.0.1/v1"'))
    assert one.verdict == "problem"
    assert "pip install 'waemitter[agents]'" in str(one.remedy)


def test_without_an_agent_nothing_is_asked_or_imported() -> None:
    code = (
        "import asyncio, sys\n"
        "from waemitter.ops.doctor.agents import agent_findings\n"
        "from waemitter.settings import load\n"
        "async def told(): return [each async for each in agent_findings(load(environ={}, config=None).settings)]\n"
        "print(asyncio.run(told()), 'openai' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[] False"
