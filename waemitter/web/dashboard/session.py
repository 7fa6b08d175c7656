"""Who looks at the dashboard: a key in a cookie that no script and no other site can use.

The key itself is the session, so that any daemon knows it and a revoked one ends at once. A form is taken only from a page of
ours: the browser's word for where it came from, and a token that is in a cookie and in the form alike.
"""

from __future__ import annotations

import hmac
import secrets
from http import HTTPStatus
from typing import Final
from urllib.parse import urlsplit

from aiohttp import web

from waemitter.web.auth import Authenticator, Caller
from waemitter.web.problems import Problem

KEY: Final = "waemitter_key"
TOKEN: Final = "waemitter_csrf"  # noqa: S105 the name of a cookie
ROOT: Final = "/dashboard"
LASTS: Final = 12 * 3600
"""Seconds until somebody who does not come back is logged out."""


class Sessions:
    def __init__(self, auth: Authenticator) -> None:
        self._auth = auth

    async def visitor(self, request: web.Request) -> Caller:
        """Raises Problem with 401, 403, 429 or 503."""
        return await self._auth.admit(
            request, "read", presented=request.cookies.get(KEY), metered=False
        )

    async def log_in(self, request: web.Request, key: str) -> Caller:
        return await self._auth.admit(request, "read", presented=key)


def keep(request: web.Request, response: web.StreamResponse, key: str) -> None:
    response.set_cookie(
        KEY,
        key,
        path=ROOT,
        max_age=LASTS,
        httponly=True,
        samesite="Strict",
        secure=_secure(request),
    )


def forget(response: web.StreamResponse) -> None:
    response.del_cookie(KEY, path=ROOT)


def token_of(request: web.Request) -> str:
    """The browser's token for forms, or a new one for it."""
    return request.cookies.get(TOKEN) or secrets.token_urlsafe(24)


def keep_token(request: web.Request, response: web.StreamResponse, token: str) -> None:
    if request.cookies.get(TOKEN) != token:
        response.set_cookie(
            TOKEN, token, path=ROOT, httponly=True, samesite="Strict", secure=_secure(request)
        )


def require_own_form(request: web.Request, given: str) -> None:
    """Raises Problem with 403 for a form that is not of this dashboard's pages."""
    kept = request.cookies.get(TOKEN, "")
    if (
        not _same_origin(request)
        or not kept
        or not hmac.compare_digest(kept.encode(), given.encode())
    ):
        raise Problem(
            HTTPStatus.FORBIDDEN,
            "This form did not come from the dashboard, or is too old: open the page again.",
        )


def _same_origin(request: web.Request) -> bool:
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None:
        return site in {"same-origin", "none"}
    origin = request.headers.get("Origin")
    return origin is None or urlsplit(origin).netloc == request.headers.get("Host")


def _secure(request: web.Request) -> bool:
    return request.secure or request.headers.get("X-Forwarded-Proto") == "https"
