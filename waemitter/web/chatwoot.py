"""Chatwoot's door: prove who knocks, keep the bytes, answer; what they mean is worked out later.

Chatwoot waits 5 seconds for the answer and asks nobody twice, so there is nothing to do here but the journal. What a server signs
depends on its age: `require` takes what is signed alone; `if-present` also what came by the secret path, with a key of ours, or,
while there is neither secret nor path, from this machine; `off` looks at no signature.
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import Final, Literal, TypeAlias

import orjson
from aiohttp import web

from waemitter.chatwoot import signature
from waemitter.observe.events import Events, Rejection
from waemitter.web.auth import Authenticator
from waemitter.web.middleware import CORRELATION_ID, TRACE
from waemitter.web.problems import Problem
from waemitter.web.webhooks import MAX_BODY, READ_TIMEOUT, RETRY_AFTER, Journal

SOURCE: Final = "chatwoot"
PATHS: Final = ("/webhooks/chatwoot", "/chatwoot-webhook-v2", "/message-buffer-manager")
SIGNATURE: Final = "X-Chatwoot-Signature"
TIMESTAMP: Final = "X-Chatwoot-Timestamp"
DELIVERY: Final = "X-Chatwoot-Delivery"

Signatures: TypeAlias = Literal["require", "if-present", "off"]

_JOURNALLED: Final = ("Content-Type", "User-Agent", TIMESTAMP, DELIVERY)


_UNREAD: Final = frozenset({"too_large", "too_slow", "disconnected"})


class _Rejected(Exception):
    def __init__(self, reason: Rejection, status: HTTPStatus, detail: str) -> None:
        super().__init__(reason)
        self.reason: Rejection = reason
        self.problem = Problem(status, detail, close=reason in _UNREAD)


class ChatwootReceiver:
    """Handles the POSTs; the last part of a path, if there is one, is the secret of it."""

    def __init__(
        self,
        *,
        secrets: Sequence[str],
        path_secret: str | None,
        signatures: Signatures,
        auth: Authenticator,
        journal: Journal,
        events: Events,
        wall: Callable[[], float],
    ) -> None:
        """`secrets`: any of them may have signed; `wall`: seconds since 1970."""
        self._secrets = tuple(secret for secret in secrets if secret)
        self._path_secret = path_secret or None
        self._signatures = signatures
        self._auth = auth
        self._journal = journal
        self._events = events
        self._wall = wall

    async def receive(self, request: web.Request) -> web.Response:
        trace = request[TRACE]
        try:
            body = await self._body(request)
            await self._admit(request, body)
            _check_json(body)
            await self._record(request, body, trace.correlation_id)
        except _Rejected as rejected:
            self._events.webhook_rejected(source=SOURCE, reason=rejected.reason)
            raise rejected.problem from None
        self._events.webhook_accepted(
            source=SOURCE, bytes=len(body), took=trace.took(), correlation_id=trace.correlation_id
        )
        return web.json_response({"success": True})

    async def _body(self, request: web.Request) -> bytes:
        if (request.content_length or 0) > MAX_BODY:
            raise _too_large()
        try:
            async with asyncio.timeout(READ_TIMEOUT):
                return await request.read()
        except TimeoutError:
            said = "The body did not arrive in time."
            raise _Rejected("too_slow", HTTPStatus.REQUEST_TIMEOUT, said) from None
        except web.HTTPRequestEntityTooLarge:
            raise _too_large() from None
        except (ConnectionError, web.RequestPayloadError):
            said = "The body is incomplete."
            raise _Rejected("disconnected", HTTPStatus.BAD_REQUEST, said) from None

    async def _admit(self, request: web.Request, body: bytes) -> None:
        """Raises _Rejected, or what the keys' guard raises."""
        given = request.headers.get(SIGNATURE)
        if self._signatures != "off" and given is not None and self._secrets:
            stamp = request.headers.get(TIMESTAMP)
            if signature.verify(
                self._secrets, body, signature=given, timestamp=stamp, now=self._wall()
            ):
                return
            said = f"{SIGNATURE} does not match the body, or is older than five minutes."
            raise _Rejected("bad_signature", HTTPStatus.UNAUTHORIZED, said)
        if self._signatures == "require":
            reason: Rejection = "missing_signature" if self._secrets else "no_secret"
            said = f"A signature is required: set the webhook's secret, and send {SIGNATURE}."
            raise _Rejected(reason, HTTPStatus.UNAUTHORIZED, said)
        by_path = request.match_info.get("secret")
        if by_path is not None:
            known = (self._path_secret or "").encode()
            if not known or not hmac.compare_digest(by_path.encode(errors="replace"), known):
                said = "This address is not the configured one."
                raise _Rejected("bad_signature", HTTPStatus.UNAUTHORIZED, said)
            return
        if (self._secrets or self._path_secret) and "Authorization" not in request.headers:
            said = (
                f"Send {SIGNATURE}, use the secret address, or send a key with the scope trigger."
            )
            raise _Rejected("missing_signature", HTTPStatus.UNAUTHORIZED, said)
        try:
            await self._auth.admit(request, "trigger")
        except Problem:
            self._events.webhook_rejected(source=SOURCE, reason="missing_signature")
            raise

    async def _record(self, request: web.Request, body: bytes, correlation_id: str) -> None:
        headers = {
            name.lower(): request.headers[name] for name in _JOURNALLED if name in request.headers
        }
        headers[CORRELATION_ID.lower()] = correlation_id
        try:
            await self._journal.record(source=SOURCE, body=body, headers=headers)
        except Exception as error:
            self._events.webhook_rejected(
                source=SOURCE, reason="journal_unavailable", error=type(error).__name__
            )
            raise Problem(
                HTTPStatus.SERVICE_UNAVAILABLE,
                "Not stored; please send it again.",
                headers={"Retry-After": str(RETRY_AFTER)},
            ) from error


def _too_large() -> _Rejected:
    said = f"At most {MAX_BODY} bytes are accepted."
    return _Rejected("too_large", HTTPStatus.REQUEST_ENTITY_TOO_LARGE, said)


def _check_json(body: bytes) -> None:
    try:
        known = isinstance(orjson.loads(body), dict)
    except orjson.JSONDecodeError:
        known = False
    if not known:
        raise _Rejected("not_json", HTTPStatus.BAD_REQUEST, "The body is not a JSON object.")
