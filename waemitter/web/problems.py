"""Errors as RFC 9457 problem details: a status, a title, and a sentence that says what to do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final, NamedTuple

import orjson
from aiohttp import web

CONTENT_TYPE: Final = "application/problem+json"


class Fault(NamedTuple):
    """One thing that is wrong with a request: the field's JSON path, and what would be right."""

    field: str
    detail: str


class Problem(Exception):
    """Raise it anywhere behind the middleware: the request is answered so."""

    def __init__(
        self,
        status: HTTPStatus,
        detail: str,
        *,
        faults: Sequence[Fault] = (),
        headers: Mapping[str, str] | None = None,
        close: bool = False,
    ) -> None:
        """`close`: the connection is of no more use, since the rest of the body is still in it."""
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.faults = tuple(faults)
        self.headers = headers
        self.close = close

    def response(self) -> web.Response:
        answer = problem(self.status, self.detail, faults=self.faults, headers=self.headers)
        if self.close:
            answer.force_close()
        return answer


def unprocessable(faults: Sequence[Fault]) -> Problem:
    """Of several faults the first is told in `detail`, and all of them in `errors`."""
    first = faults[0]
    return Problem(HTTPStatus.UNPROCESSABLE_ENTITY, f"{first.field}: {first.detail}", faults=faults)


def problem(
    status: HTTPStatus,
    detail: str,
    *,
    faults: Sequence[Fault] = (),
    headers: Mapping[str, str] | None = None,
) -> web.Response:
    """Build the answer to a request that failed; `detail` is read by the client's developer."""
    document: dict[str, Any] = {
        "type": "about:blank",
        "title": status.phrase,
        "status": status.value,
        "detail": detail,
    }
    if faults:
        document["errors"] = [fault._asdict() for fault in faults]
    return web.Response(
        status=status.value,
        body=orjson.dumps(document),
        content_type=CONTENT_TYPE,
        headers=headers,
    )
