"""Meta's door: prove who knocks, keep the bytes, answer; what they mean is worked out later.

The raw body is journalled, and committed, before Meta gets its 200; everything else is an answer
that makes Meta deliver again, for up to seven days, or that tells a stranger no. Meta signs the
bytes as it sent them, posts in parallel and in any order, and sends up to 3 MB at once.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from email.utils import formatdate
from functools import lru_cache, partial
from http import HTTPStatus
from typing import Final, Protocol, cast

import orjson
from aiohttp import StreamReader, web
from structlog.contextvars import bound_contextvars

from waemitter.observe.events import Accepted, Events, Rejection
from waemitter.web.middleware import (
    CORRELATION_ID,
    REQUEST_ID,
    Trace,
    begun,
    bug,
    fields_of,
    trace_of,
)
from waemitter.web.problems import problem
from waemitter.web.short_way import Headers, Reply
from waemitter.whatsapp import signature

SOURCE: Final = "whatsapp"
SIGNATURE: Final = "X-Hub-Signature-256"
MAX_BODY: Final = 3 * 1024 * 1024
"""Bytes. Meta's documented limit is 3 MB."""
READ_TIMEOUT: Final = 10.0
"""Seconds that a sender has for its whole body."""
RETRY_AFTER: Final = 5
"""Seconds that a sender is asked to wait when the journal fails."""

MOST_ARRIVING: Final = 64 * 1024 * 1024
"""Bytes of bodies that are still on their way, all together."""

_JOURNALLED_HEADERS: Final = tuple(
    (name, name.lower()) for name in ("Content-Type", "User-Agent", SIGNATURE)
)

_SIGNATURE: Final = SIGNATURE.lower()
_REQUEST_ID: Final = REQUEST_ID.lower()
_CORRELATION_ID: Final = CORRELATION_ID.lower()

_ANSWERS: Final[Mapping[Rejection, tuple[HTTPStatus, str]]] = {
    "handshake_refused": (HTTPStatus.FORBIDDEN, "The verify token is not the configured one."),
    "no_verify_token": (HTTPStatus.FORBIDDEN, "No verify token is configured here."),
    "no_secret": (HTTPStatus.UNAUTHORIZED, "No app secret is configured here."),
    "missing_signature": (HTTPStatus.UNAUTHORIZED, f"The header {SIGNATURE} is missing."),
    "bad_signature": (HTTPStatus.UNAUTHORIZED, f"{SIGNATURE} does not match the body."),
    "too_large": (HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"At most {MAX_BODY} bytes are accepted."),
    "too_slow": (HTTPStatus.REQUEST_TIMEOUT, f"The body took longer than {READ_TIMEOUT:.0f} s."),
    "disconnected": (HTTPStatus.BAD_REQUEST, "The body is incomplete."),
    "overloaded": (HTTPStatus.SERVICE_UNAVAILABLE, "Too much is arriving; please send it again."),
    "not_json": (HTTPStatus.BAD_REQUEST, "The body is not a JSON object."),
    "journal_unavailable": (HTTPStatus.SERVICE_UNAVAILABLE, "Not stored; please send it again."),
}


class Journal(Protocol):
    """Where webhooks are kept until they are worked off."""

    async def record(self, *, source: str, body: bytes, headers: Mapping[str, str]) -> None:
        """Return once the body is committed; whatever is raised is answered with a 503."""
        ...

    def enter(
        self,
        *,
        source: str,
        body: bytes,
        headers: Mapping[str, str],
        told: Callable[[BaseException | None], None],
    ) -> None:
        """The same, for whoever has nothing to wait with: `told(error)` comes once, later; None is the commit."""
        ...


class _Rejected(Exception):
    def __init__(self, reason: Rejection, *, error: BaseException | None = None) -> None:
        super().__init__(reason)
        self.reason: Rejection = reason
        self.error = None if error is None else type(error).__name__


class WebhookReceiver:
    """Handles both methods of the webhook's address.

    `app_secrets`: any of them may have signed; without one, no POST is accepted. `verify_tokens`:
    what was typed into the apps' dashboards, any of them; without one, no handshake is accepted.
    `read_timeout`: seconds; `most_arriving`: bytes.
    """

    def __init__(
        self,
        *,
        app_secrets: Sequence[str],
        verify_tokens: Sequence[str],
        journal: Journal,
        events: Events,
        read_timeout: float = READ_TIMEOUT,
        most_arriving: int = MOST_ARRIVING,
    ) -> None:
        self._app_secrets = tuple(secret for secret in app_secrets if secret)
        self._verify_tokens = tuple(token for token in verify_tokens if token)
        self._journal = journal
        self._events = events
        self._read_timeout = read_timeout
        self._most_arriving = most_arriving
        self._arriving = 0
        self._accepted: list[Accepted] = []  # in this turn of the event loop

    async def verify(self, request: web.Request) -> web.Response:
        """Answer Meta's GET: the challenge as plain text, or a 403."""
        if not self._verify_tokens:
            return self._refuse(_Rejected("no_verify_token"))
        challenge = signature.handshake(request.query, self._verify_tokens)
        if challenge is None:
            return self._refuse(_Rejected("handshake_refused"))
        self._events.webhook_verified(source=SOURCE)
        return web.Response(text=challenge)

    async def receive(self, request: web.BaseRequest) -> web.Response:
        """Answer Meta's POST: 200 once the body is journalled, and never before.

        It is called without the application's middlewares (`web.door`), so ids, headers and faults are its own business.
        """
        trace = trace_of(request)
        try:
            body = await self._authentic_body(request)
            await self._record(request, body, trace)
        except _Rejected as rejected:
            with bound_contextvars(correlation_id=trace.correlation_id):
                answer = self._refuse(rejected)
        except Exception as error:  # noqa: BLE001  whatever it is, the client gets an answer
            with bound_contextvars(correlation_id=trace.correlation_id):
                answer = bug(self._events, trace, error, route=request.path)
        else:
            self._events.webhook_accepted(
                source=SOURCE,
                bytes=len(body),
                took=trace.took(),
                correlation_id=trace.correlation_id,
            )
            return web.Response(headers=trace.headers())
        answer.headers.update(trace.headers())
        return answer

    def receive_at_once(self, headers: Headers, body: bytes, reply: Reply) -> bool:
        """A POST that came in one piece, as `receive` would answer it; False for what is to be refused: that is for `receive`."""
        try:
            if len(body) > MAX_BODY or self._fault(headers.get(_SIGNATURE), body):
                return False
            trace = begun(headers.get(_REQUEST_ID), headers.get(_CORRELATION_ID))
            kept = {name: headers[name] for _, name in _JOURNALLED_HEADERS if name in headers}
            kept[_CORRELATION_ID] = trace.correlation_id
            told = partial(self._reply, trace, len(body), reply)
            self._journal.enter(source=SOURCE, body=body, headers=kept, told=told)
        except Exception:  # noqa: BLE001  the long way meets it too, and says what it is
            return False
        return True

    def _reply(self, trace: Trace, size: int, reply: Reply, error: BaseException | None) -> None:
        if error is None:
            if not self._accepted:
                asyncio.get_running_loop().call_soon(self._tell_accepted)
            self._accepted.append(Accepted(size, trace.took(), trace.correlation_id))
            reply(answer_of(HTTPStatus.OK, trace.fields(), b""))
            return
        with bound_contextvars(correlation_id=trace.correlation_id):
            answer = self._refuse(_Rejected("journal_unavailable", error=error))
        fields = fields_of(answer.headers) + trace.fields()
        reply(answer_of(HTTPStatus(answer.status), fields, cast("bytes", answer.body)))

    def _tell_accepted(self) -> None:
        """In one line what one commit let go."""
        accepted, self._accepted = self._accepted, []
        if len(accepted) > 1:
            self._events.webhooks_accepted(accepted, source=SOURCE)
            return
        size, took, correlation_id = accepted[0]
        self._events.webhook_accepted(
            source=SOURCE, bytes=size, took=took, correlation_id=correlation_id
        )

    def _fault(self, claimed: str | None, body: bytes) -> Rejection | None:
        """Why a whole body is refused."""
        if not self._app_secrets:
            return "no_secret"
        if claimed is None:
            return "missing_signature"
        if not signature.verify(self._app_secrets, body, claimed):
            return "bad_signature"
        return None if _is_json_object(body) else "not_json"

    async def _authentic_body(self, request: web.BaseRequest) -> bytes:
        if (request.content_length or 0) > MAX_BODY:
            raise _Rejected("too_large")
        if not self._app_secrets:
            raise _Rejected("no_secret")
        claimed = request.headers.get(SIGNATURE)
        if claimed is None:
            raise _Rejected("missing_signature")
        content = request.content
        # What fits into a packet or two is here with its headers, and needs no timer.
        body = content.read_nowait() if content.is_eof() else await self._arriving_body(content)
        if len(body) > MAX_BODY:
            raise _Rejected("too_large")
        if fault := self._fault(claimed, body):
            raise _Rejected(fault)
        return body

    async def _arriving_body(self, content: StreamReader) -> bytes:
        body = bytearray()
        try:
            async with asyncio.timeout(self._read_timeout):
                while chunk := await content.readany():
                    body += chunk
                    self._arriving += len(chunk)
                    if len(body) > MAX_BODY:
                        raise _Rejected("too_large")
                    if self._arriving > self._most_arriving:
                        raise _Rejected("overloaded")
        except TimeoutError:
            raise _Rejected("too_slow") from None
        except (ConnectionError, web.RequestPayloadError) as error:
            raise _Rejected("disconnected", error=error) from error
        finally:
            self._arriving -= len(body)
        return bytes(body)

    async def _record(self, request: web.BaseRequest, body: bytes, trace: Trace) -> None:
        given = request.headers
        headers = {kept: given[name] for name, kept in _JOURNALLED_HEADERS if name in given}
        headers[CORRELATION_ID.lower()] = trace.correlation_id
        try:
            await self._journal.record(source=SOURCE, body=body, headers=headers)
        except Exception as error:
            raise _Rejected("journal_unavailable", error=error) from error

    def _refuse(self, rejected: _Rejected) -> web.Response:
        self._events.webhook_rejected(source=SOURCE, reason=rejected.reason, error=rejected.error)
        status, detail = _ANSWERS[rejected.reason]
        retry = status is HTTPStatus.SERVICE_UNAVAILABLE
        answer = problem(
            status, detail, headers={"Retry-After": str(RETRY_AFTER)} if retry else None
        )
        if rejected.reason in {"too_slow", "too_large", "disconnected", "overloaded"}:
            answer.force_close()
        return answer


def answer_of(status: HTTPStatus, fields: str, body: bytes) -> bytes:
    """An answer as it goes over the wire."""
    head = f"{_status_line(status)}{fields}Content-Length: {len(body)}\r\nDate: {_date(int(time.time()))}\r\n\r\n"
    return head.encode("latin-1") + body


@lru_cache(maxsize=16)
def _status_line(status: HTTPStatus) -> str:
    return f"HTTP/1.1 {status:d} {status.phrase}\r\n"


@lru_cache(maxsize=1)
def _date(second: int) -> str:
    return formatdate(second, usegmt=True)


def _is_json_object(body: bytes) -> bool:
    try:
        return isinstance(orjson.loads(body), dict)
    except orjson.JSONDecodeError:
        return False
