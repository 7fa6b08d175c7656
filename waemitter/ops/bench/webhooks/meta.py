"""A Meta that posts signed webhooks as fast as it is answered, or on a beat, and times each answer."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, cast
from urllib.parse import urlsplit

import orjson
from typing_extensions import override

from waemitter.ops.bench.cloud import BenchFailed

CONNECTIONS: Final = 64
PATIENCE: Final = 30.0  # seconds for the answers that are still to come
TICK: Final = 0.001  # seconds between two looks at the beat
WORDS: Final = ("sent", "delivered", "read")  # of every message, as Meta tells them

_HEAD: Final = (
    "POST /webhooks/whatsapp HTTP/1.1\r\nHost: {host}\r\nUser-Agent: facebookexternalua\r\nAccept: */*\r\n"
    "Content-Type: application/json\r\nContent-Length: {length}\r\nX-Hub-Signature-256: sha256={signature}\r\n\r\n"
)
_END: Final = b"\r\n\r\n"


def wamid(number: int) -> str:
    """As long as Meta's."""
    return f"wamid.HBgLMTQxNTU1NTAxMjMVAgARGBI5QTNDQTVCM0Q0Q0Q2RTY3R{number:08}"


def status_body(number: int) -> bytes:
    """The webhook of one status: the first, second or third of its message, in turn."""
    message, word = divmod(number, len(WORDS))
    status = {
        "id": wamid(message),
        "status": WORDS[word],
        "timestamp": str(1_795_300_000 + word),
        "recipient_id": "14155550123",
        "pricing": {
            "billable": True,
            "pricing_model": "PMP",
            "type": "regular",
            "category": "utility",
        },
    }
    value = {
        "messaging_product": "whatsapp",
        "metadata": {"display_phone_number": "15550783881", "phone_number_id": "111000111"},
        "statuses": [status],
    }
    entry = {"id": "102290129340398", "changes": [{"value": value, "field": "messages"}]}
    return orjson.dumps({"object": "whatsapp_business_account", "entry": [entry]})


def posts(count: int, *, address: str, secret: str) -> list[bytes]:
    """So many whole requests of statuses, signed."""
    return signed(map(status_body, range(count)), address=address, secret=secret)


def signed(bodies: Iterable[bytes], *, address: str, secret: str) -> list[bytes]:
    """Whole requests with these bodies."""
    host = urlsplit(address).netloc
    found: list[bytes] = []
    for body in bodies:
        signature = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
        found.append(_HEAD.format(host=host, length=len(body), signature=signature).encode() + body)
    return found


@dataclass(slots=True)
class Answers:
    """Milliseconds until each answer, from when the request should have left; and how many were no 200."""

    took_ms: list[float] = field(default_factory=list)
    refused: int = 0
    seconds: float = 0.0


class Meta:
    """Its connections, and which of them are idle."""

    def __init__(self, requests: Sequence[bytes]) -> None:
        self._total: Final = len(requests)
        self._requests: Final[Iterator[bytes]] = iter(requests)
        self._idle: Final[list[_Connection]] = []
        self._due: Final[deque[float]] = deque()
        self._answers: Final = Answers()
        self._flat_out = False
        self._done: Final = asyncio.Event()

    async def post(self, address: str, *, rate: float = 0.0) -> Answers:
        """Post them all, `rate` a second (0 = as fast as they are answered). Raises BenchFailed when answers stay out."""
        loop = asyncio.get_running_loop()
        host, _, port = urlsplit(address).netloc.rpartition(":")
        for _ in range(CONNECTIONS):
            _, connection = await loop.create_connection(lambda: _Connection(self), host, int(port))
            self._idle.append(connection)
        began = time.perf_counter()
        if rate:
            await self._on_the_beat(began, rate)
        else:
            self._flat_out = True
            for _ in range(min(len(self._idle), self._total)):
                self._send(time.perf_counter())
        try:
            async with asyncio.timeout(PATIENCE + self._total / 200):
                await self._done.wait()
        except TimeoutError:
            answered = len(self._answers.took_ms)
            raise BenchFailed(
                f"{answered} of {self._total} webhooks were answered in time"
            ) from None
        self._answers.seconds = time.perf_counter() - began
        for connection in self._idle:
            connection.close()
        return self._answers

    async def _on_the_beat(self, began: float, rate: float) -> None:
        """The beat goes on, whatever an answer takes: what waits for a connection has begun to wait."""
        for number in range(self._total):
            at = began + number / rate
            while time.perf_counter() < at:  # noqa: ASYNC110 a beat
                await asyncio.sleep(TICK)
            self._due.append(at)
            if self._idle:
                self._send(self._due.popleft())

    def _send(self, since: float) -> None:
        request = next(self._requests, None)
        if request is not None:
            self._idle.pop().send(request, since)

    def answered(self, connection: _Connection, took: float, *, accepted: bool) -> None:
        self._answers.took_ms.append(took * 1000)
        self._answers.refused += not accepted
        self._idle.append(connection)
        if len(self._answers.took_ms) == self._total:
            self._done.set()
        elif self._flat_out:
            self._send(time.perf_counter())
        elif self._due:
            self._send(self._due.popleft())


class _Connection(asyncio.Protocol):
    def __init__(self, meta: Meta) -> None:
        self._meta = meta
        self._transport: asyncio.Transport | None = None
        self._since = 0.0
        self._unread = b""

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def send(self, request: bytes, since: float) -> None:
        assert self._transport is not None  # noqa: S101 it was connected
        self._since = since
        self._transport.write(request)

    def close(self) -> None:
        assert self._transport is not None  # noqa: S101 it was connected
        self._transport.close()

    @override
    def data_received(self, data: bytes) -> None:
        self._unread += data
        head, end, body = self._unread.partition(_END)
        if not end:
            return
        length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
        if len(body) < int(length or 0):
            return
        self._unread = b""
        took = time.perf_counter() - self._since
        self._meta.answered(self, took, accepted=head.startswith(b"HTTP/1.1 200"))
