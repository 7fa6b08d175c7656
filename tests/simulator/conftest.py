"""A receiver of webhooks, a simulator that knows it, and a client that speaks to both."""

from __future__ import annotations

import asyncio
import hmac
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from waemitter.simulator import Options, Simulator

NUMBER = "330900000000007"
SECRET = "receiver-secret"


@dataclass
class Receiver:
    """Answers webhooks with `answers` in turn, then 200, and remembers the genuine ones."""

    url: str = ""
    answers: list[int] = field(default_factory=list)
    posts: list[dict[str, Any]] = field(default_factory=list)
    raw: list[bytes] = field(default_factory=list)
    forged: int = 0
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def handle(self, request: web.Request) -> web.Response:
        body = await request.read()
        expected = "sha256=" + hmac.new(SECRET.encode(), body, "sha256").hexdigest()
        async with self.changed:
            self.changed.notify_all()
            if request.headers["X-Hub-Signature-256"] != expected:
                self.forged += 1
                return web.Response(status=401)
            self.raw.append(body)
            self.posts.append(json.loads(body))
        return web.Response(status=self.answers.pop(0) if self.answers else 200)

    async def until(self, happened: Callable[[Receiver], object]) -> None:
        async with asyncio.timeout(10), self.changed:
            await self.changed.wait_for(lambda: happened(self))

    def values(self) -> list[dict[str, Any]]:
        return [c["value"] for p in self.posts for e in p["entry"] for c in e["changes"]]

    @property
    def statuses(self) -> list[dict[str, Any]]:
        return [status for value in self.values() for status in value.get("statuses", ())]

    @property
    def messages(self) -> list[dict[str, Any]]:
        return [message for value in self.values() for message in value.get("messages", ())]


@dataclass
class Client:
    """Sends as a business would; answers are (HTTP status, JSON body)."""

    session: aiohttp.ClientSession
    meta: Simulator
    number: str = NUMBER

    async def post(self, body: Any, path: str = f"/{NUMBER}/messages") -> tuple[int, Any]:
        return await self.call("POST", path, json=body)

    async def call(
        self, method: str, path: str, *, token: str | None = "token", **more: Any
    ) -> tuple[int, Any]:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        url = path if path.startswith("http") else self.meta.base_url + path
        async with self.session.request(method, url, headers=headers, **more) as reply:
            is_json = reply.content_type == "application/json"
            return reply.status, await (reply.json() if is_json else reply.read())

    async def text(self, to: str, body: str = "hello", **more: Any) -> tuple[int, Any]:
        message = {"messaging_product": "whatsapp", "to": to, "type": "text"}
        return await self.post({**message, "text": {"body": body}, **more})

    async def control(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        url = f"{self.meta.address}/_simulator{path}"
        async with self.session.request(method, url, json=body) as reply:
            return reply.status, await reply.json()


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    made = Receiver()
    application = web.Application()
    application.router.add_post("/webhooks", made.handle)
    async with TestServer(application) as server:
        made.url = str(server.make_url("/webhooks"))
        yield made


@pytest.fixture
async def meta(receiver: Receiver) -> AsyncIterator[Simulator]:
    at_once = (0.0, 0.0)
    options = Options(
        webhook_url=receiver.url,
        app_secret=SECRET,
        messages_per_second=0,
        sent_delay=at_once,
        delivered_delay=at_once,
        read_delay=at_once,
        reply_delay=at_once,
        webhook_retry_initial=0.01,
    )
    async with Simulator(options) as simulator:
        yield simulator


@pytest.fixture
async def client(meta: Simulator) -> AsyncIterator[Client]:
    async with aiohttp.ClientSession() as session:
        yield Client(session, meta)
