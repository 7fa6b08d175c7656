"""A turn, and services over real sockets that answer what they are told."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

from aiohttp import web

from waemitter.turns.turn import Contact, Session, Turn

Answering: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse]]

HELLO = {"type": "text", "text": {"body": "Hello"}}
TURN = Turn(
    turn_id=7,
    attempt=1,
    channel="default",
    route="rides",
    conversation_id=3,
    contact=Contact(5, "14155550123", None, "+14155550123", "Ada"),
    session=Session("rides", {"step": 1}),
    text="a ride",
    messages=[{"id": "wamid.1", "type": "text", "text": {"body": "a ride"}}],
    correlation_id="c-1",
)


class Service:
    """Answers what it is told, and keeps what it was asked."""

    def __init__(self, answer: Answering) -> None:
        self.asked: list[tuple[web.Request, bytes]] = []
        self.address = ""
        self._answer = answer

    async def serve(self, request: web.Request) -> web.StreamResponse:
        self.asked.append((request, await request.read()))
        return await self._answer(request)


@asynccontextmanager
async def serving_answers(answer: Answering) -> AsyncIterator[Service]:
    service = Service(answer)
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", service.serve)
    # Whoever hangs is cancelled when its client has gone.
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        service.address = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield service
    finally:
        await runner.cleanup()


def saying(status: int = 200, **response: Any) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def answer(_: web.Request) -> web.Response:
        if "json" in response:
            return web.json_response(response["json"], status=status)
        return web.Response(status=status, **response)

    return answer
