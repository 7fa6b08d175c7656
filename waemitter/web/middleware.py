"""What every request gets: an id, a correlation id in the log's context, and its time in headers.

Headers are added as the answer's are about to be written, so that a streamed one has them too.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Mapping
from http import HTTPStatus
from pathlib import PurePath
from typing import Final, NamedTuple

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware
from structlog.contextvars import bound_contextvars

from waemitter.observe.events import Events
from waemitter.web.problems import Problem, problem

REQUEST_ID: Final = "X-Request-ID"
CORRELATION_ID: Final = "X-Correlation-ID"

_KEPT_HEADERS: Final = ("Allow", "Retry-After", "WWW-Authenticate")

# What may be echoed and logged: an id that somebody sent, and nothing that only looks like one.
_SANE: Final = re.compile(r"[\w.:/+=@-]{1,128}", re.ASCII)


class Trace(NamedTuple):
    """A request's identity, and when it began (`time.perf_counter`, in seconds)."""

    request_id: str
    correlation_id: str
    started: float

    def took(self) -> float:
        return time.perf_counter() - self.started

    def headers(self) -> dict[str, str]:
        """What every answer carries."""
        return _headers(self.request_id, self.correlation_id, self._elapsed())

    def fields(self) -> str:
        """The same, as it goes over the wire."""
        elapsed = self._elapsed()
        return _FIELDS % (self.request_id, self.correlation_id, elapsed, elapsed)

    def _elapsed(self) -> str:
        return f"{self.took() * 1000:.2f}"


def _headers(request_id: str, correlation_id: str, elapsed: str) -> dict[str, str]:
    return {
        REQUEST_ID: request_id,
        CORRELATION_ID: correlation_id,
        "X-Response-Time-Ms": elapsed,
        "Server-Timing": f"app;dur={elapsed}",
        "Server": "waemitter",
        "X-Content-Type-Options": "nosniff",
    }


def fields_of(headers: Mapping[str, str]) -> str:
    """Headers as they go over the wire."""
    return "".join([f"{name}: {value}\r\n" for name, value in headers.items()])


_FIELDS: Final = fields_of(_headers("%s", "%s", "%s"))

TRACE: Final = web.RequestKey("trace", Trace)


def trace_of(request: web.BaseRequest) -> Trace:
    """Begin a request's trace, with the ids that it brought if they are sane."""
    headers = request.headers
    return begun(headers.get(REQUEST_ID), headers.get(CORRELATION_ID))


def begun(request_id: str | None, correlation_id: str | None) -> Trace:
    """Begin a trace, with the ids that a request brought if they are sane."""
    request_id = _sane(request_id) or f"{random.getrandbits(128):032x}"
    return Trace(
        request_id=request_id,
        correlation_id=_sane(correlation_id) or request_id,
        started=time.perf_counter(),
    )


def bug(events: Events, trace: Trace, error: Exception, *, route: str) -> web.Response:
    """The answer to a request that met a fault of ours, which is logged."""
    events.request_failed(route=route, error=type(error).__name__, where=_origin(error))
    return problem(
        HTTPStatus.INTERNAL_SERVER_ERROR,
        f"A bug, logged with the correlation id {trace.correlation_id}.",
    )


def traced(events: Events) -> Middleware:
    """Make the outermost middleware: no exception passes it, and no answer leaves without ids."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        trace = request[TRACE] = trace_of(request)
        with bound_contextvars(correlation_id=trace.correlation_id):
            try:
                return await handler(request)
            except web.HTTPException as answer:
                return _as_problem(answer)
            except Problem as refused:
                return refused.response()
            except Exception as error:  # noqa: BLE001  whatever it is, the client gets an answer
                return bug(events, trace, error, route=_route(request))

    return middleware


async def add_headers(request: web.Request, response: web.StreamResponse) -> None:
    """Sign the answer; connect this to the application's `on_response_prepare`."""
    trace = request.get(TRACE)
    if trace is not None:
        response.headers.update(trace.headers())


def _sane(identifier: str | None) -> str | None:
    return identifier if identifier and _SANE.fullmatch(identifier) else None


def _as_problem(answer: web.HTTPException) -> web.StreamResponse:
    if answer.status < HTTPStatus.BAD_REQUEST:
        raise answer
    headers = {name: answer.headers[name] for name in _KEPT_HEADERS if name in answer.headers}
    return problem(HTTPStatus(answer.status), answer.text or answer.reason, headers=headers)


def _route(request: web.Request) -> str:
    resource = request.match_info.route.resource
    return "unknown" if resource is None else resource.canonical


def _origin(error: BaseException) -> str:
    """Name the line that raised; an exception's own text might quote what must not be logged."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return "unknown"
    code = trace.tb_frame.f_code
    return f"{PurePath(code.co_filename).name}:{trace.tb_lineno} in {code.co_qualname}"
