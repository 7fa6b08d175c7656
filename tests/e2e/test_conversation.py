"""Customers write, and are answered by the routes of docs/routes.md: a service, a function in Postgres, replies.

Among what is asked are the nine integration checks of the systems that waemitter takes over from: health, keyword, menu, state,
fallback, rate limit, correlation id, latency header, request id.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from tests.e2e.scene import Scene, get, until
from waemitter.ops.processes import Child
from waemitter.ops.stage import NUMBER_ID

DOCS = (Path(__file__).parents[2] / "docs/routes.md").read_text()
SQL = DOCS.split("```sql\n", 1)[1].split("```", 1)[0]
RATE = 4

REPLIES = """
    select coalesce(payload #>> '{text,body}', payload #>> '{interactive,body,text}') as said, correlation_id
    from waemitter.outbox_messages where recipient = $1 and status in ('sent', 'delivered', 'read') order by id
"""
WAITING = "select count(*) from waemitter.message_buffer where status in ('open', 'processing')"
KEPT = "select count(*) from waemitter.inbound_messages"
SESSION = "select active_service from waemitter.user_sessions where phone_number = $1"


class Rides:
    """The service of the example: counts the steps of a ride."""

    def __init__(self) -> None:
        self.asked: list[tuple[dict[str, str], dict[str, Any]]] = []

    async def serve(self, request: web.Request) -> web.Response:
        turn = await request.json()
        self.asked.append((dict(request.headers), turn))
        step = turn["session"]["context"].get("step", 0) + 1
        reply = {"type": "text", "text": {"body": f"Ride, step {step}"}}
        return web.json_response({"messages": [reply], "session": {"context": {"step": step}}})


@asynccontextmanager
async def rides() -> AsyncIterator[tuple[Rides, str]]:
    service = Rides()
    app = web.Application()
    app.router.add_post("/turns", service.serve)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield service, f"http://127.0.0.1:{runner.addresses[0][1]}/turns"
    finally:
        await runner.cleanup()


async def opened(scene: Scene, folder: Path, url: str) -> tuple[Child, str]:
    """A simulator, and a daemon with the routes of the docs, where every message is a turn of its own."""
    await scene.fetch("create schema shop")
    await scene.fetch(SQL.partition("\n\n")[2])
    example = DOCS.split("```toml\n", 1)[1].split("```", 1)[0]
    example = example.replace("http://127.0.0.1:9000/turns", url)
    example = example.replace('buffer = { mode = "sliding", duration = "5s" }\n', "")
    (folder / "waemitter.toml").write_text(example + '[inbox]\nbuffer_mode = "off"\n')
    return await scene.play(
        environ={
            "WAEMITTER_CONFIG": str(folder / "waemitter.toml"),
            "RIDES_SECRET": "s3cret",
            "WAEMITTER_TURNS__CONTACT_RATE": str(RATE),
        }
    )


class Customer:
    def __init__(self, scene: Scene, number: str) -> None:
        self.scene = scene
        self.number = number
        self.heard: list[str] = []

    async def writes(self, text: str) -> None:
        said = {"from": self.number, "text": text, "phone_number_id": NUMBER_ID}
        await self.scene.control("POST", "customers/messages", said)

    async def asks(self, text: str) -> str:
        """What the next answer says; the whole of it when there are several."""
        await self.writes(text)
        known = len(self.heard)

        async def answered() -> bool:
            self.heard = [row["said"] for row in await self.scene.fetch(REPLIES, self.number)]
            return len(self.heard) > known

        await until(answered)
        return "\n".join(self.heard[known:])


async def test_a_conversation_goes_by_the_routes(scene: Scene, tmp_path: Path) -> None:
    """All nine with one daemon: most of the time is its start."""
    async with rides() as (service, url):
        _, address = await opened(scene, tmp_path, url)
        ada = Customer(scene, "+15550101201")

        assert await ada.asks("What is this?") == "Write menu to see what we do."  # fallback
        assert await ada.asks("Taxi") == "Ride, step 1"  # keyword
        assert await ada.asks("to the airport") == "Ride, step 2"  # state
        assert await scene.value(SESSION, ada.number) == "rides"
        assert (await ada.asks("MENU")).endswith("what may it be?")  # menu
        assert await scene.value(SESSION, ada.number) is None

        bob = Customer(scene, "+15550101202")
        assert await bob.asks("my insurance") == "You are insured."

        (first, turn), (_, second) = service.asked
        assert turn["text"] == "Taxi"
        assert second["session"] == {"active_service": "rides", "context": {"step": 1}}
        assert first["webhook-signature"].startswith("v1,")
        rows = await scene.fetch(REPLIES, ada.number)
        assert first["X-Correlation-ID"] == rows[1]["correlation_id"]
        await _writes_too_much(scene, Customer(scene, "+15550101203"))
        await _health_and_headers(address)


async def _writes_too_much(scene: Scene, customer: Customer) -> None:
    before = await scene.value(KEPT)
    for n in range(RATE + 2):
        await customer.writes(f"Hello {n}")

    async def settled() -> bool:
        kept = await scene.value(KEPT) == before + RATE + 2
        return kept and not await scene.value(WAITING)

    await until(settled)
    assert len(await scene.fetch(REPLIES.partition("and status")[0], customer.number)) == RATE


async def _health_and_headers(address: str) -> None:
    assert (await get(f"{address}/wa-webhook-core/health"))[0] == 200
    given = {"X-Correlation-ID": "c-17"}
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{address}/health", headers=given) as answer,
    ):
        assert answer.status == 200
        assert answer.headers["X-Correlation-ID"] == "c-17"
        assert answer.headers["X-Request-ID"]
        assert float(answer.headers["X-Response-Time-Ms"]) >= 0


async def test_a_daemon_does_not_start_without_the_function_of_a_route(
    scene: Scene, tmp_path: Path
) -> None:
    config = tmp_path / "waemitter.toml"
    config.write_text(
        "[[routes]]\nname = 'shop'\nfallback = true\nhandler = 'sql'\nfunction = 'shop.answer'\n"
    )
    scene.graph_url = "http://127.0.0.1:9/v24.0"

    ended = await scene.command("run", "--config", str(config))

    assert ended.code == 2
    assert "the database has no function shop.answer(jsonb): create it" in ended.err
