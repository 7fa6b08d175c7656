"""Errors as RFC 9457 problem details: a status, a title, and a sentence that says what to do."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

import orjson
from aiohttp import web

CONTENT_TYPE: Final = "application/problem+json"


def problem(
    status: HTTPStatus, detail: str, *, headers: Mapping[str, str] | None = None
) -> web.Response:
    """Build the answer to a request that failed; `detail` is read by the client's developer."""
    document = {
        "type": "about:blank",
        "title": status.phrase,
        "status": status.value,
        "detail": detail,
    }
    return web.Response(
        status=status.value,
        body=orjson.dumps(document),
        content_type=CONTENT_TYPE,
        headers=headers,
    )
