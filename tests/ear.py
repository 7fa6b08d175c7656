"""A receiver of alerts on a real socket."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer

PATH = "/hook/path-secret"


@dataclass
class Ear:
    """A receiver, as Alertmanager's webhooks are received."""

    url: str = ""
    status: int = 200
    heard: list[dict[str, Any]] = field(default_factory=list)
    bearers: list[str | None] = field(default_factory=list)

    @property
    def told(self) -> list[tuple[str, str]]:
        """Each alert's name and status, in order."""
        return [
            (alert["labels"]["alertname"], alert["status"])
            for document in self.heard
            for alert in document["alerts"]
        ]


@asynccontextmanager
async def hearing() -> AsyncIterator[Ear]:
    ear = Ear()

    async def hear(request: web.Request) -> web.Response:
        ear.bearers.append(request.headers.get("Authorization"))
        if ear.status == 200:
            ear.heard.append(await request.json())
        return web.Response(status=ear.status, headers={"Location": "/elsewhere"})

    app = web.Application()
    app.router.add_post(PATH, hear)
    server = TestServer(app)
    await server.start_server(access_log=None)  # whose lines would be taken for the daemon's
    ear.url = str(server.make_url(PATH))
    yield ear
    await server.close()
