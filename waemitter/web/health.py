"""Three questions: does the process answer, may traffic come, and how is each component."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final, TypeAlias

import orjson
from aiohttp import web

_UNCACHED: Final = {"Cache-Control": "no-store"}


@dataclass(frozen=True, slots=True)
class Component:
    """How one part of the daemon is, as it knows it: asking must not wait for anything.

    A component that is not `required` may fail without turning the daemon unready.
    """

    name: str
    ok: bool
    detail: str = ""
    required: bool = True


Probe: TypeAlias = Callable[[], Component]


class Health:
    """Answers for the whole daemon; `stopping` tells whether a stop was requested.

    Readiness ends with the request to stop, while requests are still answered: a balancer has the
    time that draining takes to send its traffic elsewhere. Liveness ends with the process.
    """

    def __init__(
        self, *, version: str, stopping: Callable[[], bool], probes: Sequence[Probe]
    ) -> None:
        self._version = version
        self._stopping = stopping
        self._probes = probes
        self._started = time.monotonic()

    async def live(self, _request: web.Request) -> web.Response:
        return _answer(HTTPStatus.OK, {"status": "ok"})

    async def ready(self, _request: web.Request) -> web.Response:
        status, components = self._examine()
        failing = [component.name for component in components if not component.ok]
        return _answer(_http_status(status), {"status": status, "failing": failing})

    async def report(self, _request: web.Request) -> web.Response:
        status, components = self._examine()
        document = {
            "status": status,
            "version": self._version,
            "uptimeSeconds": round(time.monotonic() - self._started, 3),
            "components": [
                {
                    "name": component.name,
                    "ok": component.ok,
                    "required": component.required,
                    "detail": component.detail,
                }
                for component in components
            ],
        }
        return _answer(_http_status(status), document)

    def _examine(self) -> tuple[str, list[Component]]:
        components = [probe() for probe in self._probes]
        if self._stopping():
            return "stopping", components
        if all(component.ok for component in components):
            return "ok", components
        if all(component.ok for component in components if component.required):
            return "degraded", components
        return "unavailable", components


def _http_status(status: str) -> HTTPStatus:
    return HTTPStatus.OK if status in {"ok", "degraded"} else HTTPStatus.SERVICE_UNAVAILABLE


def _answer(status: HTTPStatus, document: dict[str, Any]) -> web.Response:
    return web.Response(
        status=status.value,
        body=orjson.dumps(document),
        content_type="application/json",
        headers=_UNCACHED,
    )
