"""A receiver of events over real sockets, as somebody would write it by the docs."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import orjson
from aiohttp import web

SECRET = "whsec_" + base64.b64encode(b"a key of the shop").decode()


HANGS = -1


@dataclass
class Receiver:
    """Answers each event by `answer`, after it checked the signature; `seen` are all attempts, `taken` the CloudEvents."""

    answer: Callable[[dict[str, Any]], web.StreamResponse | int] = lambda _: 204
    url: str = ""
    seen: list[tuple[dict[str, str], dict[str, Any]]] = field(default_factory=list)
    taken: list[dict[str, Any]] = field(default_factory=list)

    async def serve(self, request: web.Request) -> web.StreamResponse:
        body, headers = await request.read(), request.headers
        key = base64.b64decode(SECRET.removeprefix("whsec_"))
        signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
        digest = base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()
        assert hmac.compare_digest(headers["webhook-signature"], f"v1,{digest}")
        event = orjson.loads(body)
        self.seen.append((dict(headers), event))
        answer = self.answer(event)
        if isinstance(answer, web.StreamResponse):
            return answer
        if answer == HANGS:
            await asyncio.Event().wait()
        if answer < 300:
            self.taken.append(event)
        return web.Response(status=answer)

    def types(self, subject: str) -> list[str]:
        """What was taken of one subject, in its order."""
        return [event["type"] for event in self.taken if event["subject"] == subject]


@asynccontextmanager
async def receiver(
    answer: Callable[[dict[str, Any]], web.StreamResponse | int] = lambda _: 204,
) -> AsyncIterator[Receiver]:
    made = Receiver(answer)
    app = web.Application()
    app.router.add_post("/events", made.serve)
    runner = web.AppRunner(app, shutdown_timeout=0.01)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}/events"
    try:
        yield made
    finally:
        await runner.cleanup()
