"""Answers as HTTP: Meta's headers, and connections that fail on purpose."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import orjson
from aiohttp import web

from waemitter.simulator.errors import GraphError
from waemitter.simulator.faults import Fault
from waemitter.simulator.sends import Answer
from waemitter.simulator.world import World

_BAD_GATEWAY: Final = (
    b"<!DOCTYPE html><html><head><title>Sorry, something went wrong.</title></head>"
    b"<body><h1>502 Bad Gateway</h1></body></html>"
)
_WORN_OUT: Final = frozenset({80007, 80008, 130429})
_APP_WORN_OUT: Final = 4
_TOKEN_REFUSED: Final = 190


class Wire:
    """Turns answers into responses for a world; `closing` ends those that hang."""

    def __init__(self, world: World, closing: asyncio.Event) -> None:
        self._world = world
        self._closing = closing
        self._calm = _usage(world.options.waba_id, percent=12, minutes=0)
        self._busy = _usage(world.options.waba_id, percent=100, minutes=1)

    def reply(self, request: web.Request, answer: Answer) -> web.Response:
        """Return the response that Meta would give, with its headers."""
        return web.Response(
            status=answer.status, body=answer.body, headers=self._headers(request, answer.error)
        )

    def success(self, request: web.Request, document: object) -> web.Response:
        return self.reply(request, Answer(200, orjson.dumps(document)))

    def _headers(self, request: web.Request, error: GraphError | None) -> dict[str, str]:
        trace = self._world.ids.trace()
        headers = {
            "Content-Type": "application/json; charset=UTF-8",
            "Cache-Control": "private, no-cache, no-store, must-revalidate",
            "facebook-api-version": request.match_info.get(
                "version", self._world.options.api_version
            ),
            "x-fb-trace-id": trace[:12],
            "x-fb-request-id": trace,
            "x-fb-debug": "bm90LXJlYWw=",
            "x-business-use-case-usage": self._calm,
        }
        if error is not None:
            if error.code in _WORN_OUT:
                headers["x-business-use-case-usage"] = self._busy
            elif error.code == _APP_WORN_OUT:
                headers["x-app-usage"] = '{"call_count":100,"total_time":31,"total_cputime":22}'
            elif error.code == _TOKEN_REFUSED:
                headers["WWW-Authenticate"] = (
                    'OAuth "Facebook Platform" "invalid_token" "Session has expired"'
                )
        return headers

    async def break_off(
        self, request: web.Request, fault: Fault, answer: Answer | None = None
    ) -> web.StreamResponse:
        """Fail as `fault` says, after the platform did (or did not do) its part."""
        self._world.ledger.fault(fault.value)
        if fault in {Fault.HTML_5XX, Fault.HTML_5XX_AFTER}:
            return web.Response(status=502, body=_BAD_GATEWAY, content_type="text/html")
        if fault in {Fault.HANG_BEFORE, Fault.HANG_AFTER}:
            # Until the sender gives up: then the server cancels this handler.
            await self._closing.wait()
        elif fault is Fault.CUT_REPLY and answer is not None:
            await self._begin_only(request, answer)
        if request.transport is not None:
            request.transport.abort()
        return web.Response(status=500)

    async def _begin_only(self, request: web.Request, answer: Answer) -> None:
        half = web.StreamResponse(
            status=answer.status, headers=self._headers(request, answer.error)
        )
        half.content_length = len(answer.body)
        await half.prepare(request)
        await half.write(answer.body[: len(answer.body) // 2])
        if request.transport is not None:
            # An abort would throw the first half away as well.
            request.transport.close()


def _usage(waba_id: str, *, percent: int, minutes: int) -> str:
    usage: dict[str, Any] = {
        "type": "whatsapp",
        "call_count": percent,
        "total_cputime": 4,
        "total_time": 3,
        "estimated_time_to_regain_access": minutes,
    }
    return orjson.dumps({waba_id: [usage]}).decode()
