"""The handler `http`: a service of yours gets the turn, signed, and answers it."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp
import orjson
from typing_extensions import override

from waemitter.errors import PayloadError
from waemitter.observe.trace import of_turn
from waemitter.runtime.circuits import Circuit, CircuitOpen, TargetFailed
from waemitter.turns.answers import parse_answer
from waemitter.turns.handlers.webhook_signature import sign
from waemitter.turns.turn import Answer, Handler, HandlerFailed, Turn

LONGEST_ANSWER: Final = 1 << 20
"""Bytes."""


class ServiceFailed(HandlerFailed, TargetFailed):
    """The service's own fault, which may pass."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason, retry=True)


def target_of(url: str) -> str:
    """Name the service by scheme, host and port: what it answers says something of all its paths."""
    parts = urlsplit(url)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return f"{parts.scheme}://{host}{f':{parts.port}' if parts.port else ''}"


class Http(Handler):
    """Posts a turn. Follows no redirect, and keeps no cookie: the address in the settings is the only one that is called."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        *,
        url: str,
        key: bytes | None,
        timeout: float,
        service: str | None,
        circuit: Circuit,
        traced: float | None = None,
        clock: Callable[[], float],
    ) -> None:
        """`key`: signs, if there is one; `timeout` in seconds, for the whole call; `clock`: seconds since 1970.

        `traced`: the share of turns whose trace is exported; without it a turn carries no `traceparent`.
        """
        self._session = session
        self._url = url
        self._key = key
        self._timeout = aiohttp.ClientTimeout(total=timeout)
        self._service = service
        self._circuit = circuit
        self._traced = traced
        self._clock = clock

    @override
    async def handle(self, turn: Turn) -> Answer:
        try:
            with self._circuit.call():
                document = await self._ask(turn)
        except CircuitOpen as error:
            raise HandlerFailed(str(error), retry=True) from None
        try:
            return parse_answer(document, before=turn.session, service=self._service)
        except PayloadError as error:
            raise HandlerFailed(f"the service's answer: {error}", retry=False) from None

    async def _ask(self, turn: Turn) -> Any:
        """Return the answer's document; None for no reply. Raises HandlerFailed."""
        body = orjson.dumps(turn.plain())
        try:
            async with self._session.post(
                self._url,
                data=body,
                headers=self._headers(turn, body),
                timeout=self._timeout,
                allow_redirects=False,
            ) as response:
                return await _document(response)
        except TimeoutError:
            raise ServiceFailed("the service did not answer in time") from None
        except aiohttp.ClientError as error:
            raise ServiceFailed(f"the service was not reached: {type(error).__name__}") from None

    def _headers(self, turn: Turn, body: bytes) -> dict[str, str]:
        # The same for every attempt, so that the service can tell a retry.
        webhook_id, timestamp = f"turn_{turn.turn_id}", int(self._clock())
        headers = {
            "Content-Type": "application/json",
            "X-Correlation-ID": turn.correlation_id or webhook_id,
            "X-WA-Internal-Forward": "1",
            "webhook-id": webhook_id,
            "webhook-timestamp": str(timestamp),
        }
        if self._traced is not None:
            headers["traceparent"] = of_turn(turn.turn_id, turn.correlation_id, ratio=self._traced)
        if self._key is not None:
            headers["webhook-signature"] = sign(
                self._key, webhook_id=webhook_id, timestamp=timestamp, body=body
            )
        return headers


async def _document(response: aiohttp.ClientResponse) -> Any:
    status = response.status
    if status == HTTPStatus.TOO_MANY_REQUESTS or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        raise ServiceFailed(f"the service answered {status}")
    if not HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
        raise HandlerFailed(f"the service answered {status}", retry=False)
    if status in {HTTPStatus.NO_CONTENT, HTTPStatus.ACCEPTED}:
        return None
    body = await _read(response)
    if not body:
        return None
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        raise HandlerFailed("the service's answer is no JSON", retry=False) from None


async def _read(response: aiohttp.ClientResponse) -> bytes:
    read = bytearray()
    async for chunk in response.content.iter_any():
        read += chunk
        if len(read) > LONGEST_ANSWER:
            raise HandlerFailed(
                f"the service's answer has more than {LONGEST_ANSWER} bytes", retry=False
            )
    return bytes(read)
