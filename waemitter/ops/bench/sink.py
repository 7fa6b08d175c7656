"""A lean Cloud API in a process of its own: it takes messages, answers as Meta does, and checks nothing.

The simulator judges every field, which costs more than the daemon spends on a message; here the daemon is to be measured.
The time of each arrival is taken when its bytes are read, by the clock that all processes of a machine share.

    POST …/messages      200 with a wamid, after a fixed latency if one is set; the number 503000503 is out of order
    POST …/completions   a model's answer, always the same, after the same latency
    GET /report          the counts so far
    GET /arrivals        when the first message for each recipient arrived
    GET /wait?posts=N    answers with the report once N messages have arrived
    DELETE /             forget everything
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import re
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final, cast
from urllib.parse import parse_qs, urlsplit

import orjson
from typing_extensions import override

_LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_HEAD: Final = (
    b"HTTP/1.1 %d OK\r\nContent-Type: application/json; charset=UTF-8\r\nContent-Length: %d\r\n\r\n"
)
_ACCEPTED: Final = (
    b'{"messaging_product":"whatsapp","contacts":[{"input":"%b","wa_id":"%b"}],'
    b'"messages":[{"id":"wamid.HBgLMTQxNTU1NTAxMjMVAgARGBI%020dAA=="}]}'
)
FAILING_NUMBER: Final = "503000503"
_FAILING_PATH: Final = f"/{FAILING_NUMBER}/".encode()
_REFUSED: Final = (
    b'{"error":{"message":"Service temporarily unavailable","type":"OAuthException","code":2}}'
)
_MODEL_PATH: Final = b"/chat/completions "
_COMPLETION: Final = orjson.dumps(
    {
        "id": "chatcmpl-bench",
        "object": "chat.completion",
        "created": 1795300000,
        "model": "gpt-4o-mini",
        "choices": [
            {
                "index": 0,
                "finish_reason": "stop",
                "message": {
                    "role": "assistant",
                    "content": "Yes, we have it in green, and we can bring it on Thursday between nine and twelve.",
                },
            }
        ],
        "usage": {"prompt_tokens": 60, "completion_tokens": 20, "total_tokens": 80},
    }
)
_TICK: Final = 0.0005  # seconds: half the resolution of the loop's timers


class Sink:
    """What arrived, and the answers that wait for their time. `latency` in seconds."""

    def __init__(self, *, latency: float = 0.0) -> None:
        self._latency = latency
        self._late: Final[deque[tuple[float, asyncio.Transport, bytes]]] = deque()
        self._connections = 0
        self._forget()

    def _forget(self) -> None:
        self._arrivals: list[tuple[str, float]] = []
        self._awaited: list[tuple[int, asyncio.Transport]] = []
        self._most_connections = self._connections

    def connected(self) -> None:
        self._connections += 1
        self._most_connections = max(self._most_connections, self._connections)

    def disconnected(self) -> None:
        self._connections -= 1

    def message(self, body: bytes, now: float, transport: asyncio.Transport) -> None:
        """Take one message and see to its answer."""
        to: str = orjson.loads(body)["to"]
        wa_id = to.removeprefix("+")
        self._arrivals.append((wa_id, now))
        text = _ACCEPTED % (to.encode(), wa_id.encode(), len(self._arrivals))
        answer = _HEAD % (200, len(text)) + text
        if self._latency:
            self._postpone(transport, answer)
        else:
            transport.write(answer)
        if self._awaited:
            self._tell_waiting()

    def complete(self, transport: asyncio.Transport) -> None:
        """Answer as a model that has thought for `latency`; it is no arrival."""
        answer = _HEAD % (200, len(_COMPLETION)) + _COMPLETION
        if self._latency:
            self._postpone(transport, answer)
        else:
            transport.write(answer)

    def refuse(self, transport: asyncio.Transport) -> None:
        """Take nothing, and say that it may be tried again."""
        transport.write(_HEAD % (503, len(_REFUSED)) + _REFUSED)

    def _postpone(self, transport: asyncio.Transport, answer: bytes) -> None:
        # The latency is the same for all, so the queue is in order of time and one timer serves it.
        loop = asyncio.get_running_loop()
        self._late.append((loop.time() + self._latency, transport, answer))
        if len(self._late) == 1:
            loop.call_later(self._latency, self._answer_due)

    def _answer_due(self) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time() + _TICK
        while self._late and self._late[0][0] <= due:
            _, transport, answer = self._late.popleft()
            transport.write(answer)
        if self._late:
            loop.call_at(self._late[0][0], self._answer_due)

    def control(self, method: bytes, target: str, transport: asyncio.Transport) -> None:
        """Answer what is no message."""
        url = urlsplit(target)
        match method, url.path:
            case b"GET", "/report":
                _respond(transport, self.report())
            case b"GET", "/arrivals":
                _respond(transport, dict(reversed(self._arrivals)))
            case b"GET", "/wait":
                self._awaited.append((int(parse_qs(url.query)["posts"][0]), transport))
                self._tell_waiting()
            case b"DELETE", "/":
                self._forget()
                _respond(transport, {})
            case _:
                _respond(transport, {"error": {"message": "Unknown path", "code": 100}}, status=404)

    def _tell_waiting(self) -> None:
        arrived = len(self._arrivals)
        for wanted, transport in self._awaited:
            if arrived >= wanted:
                _respond(transport, self.report())
        self._awaited = [waiting for waiting in self._awaited if waiting[0] > arrived]

    def report(self) -> dict[str, Any]:
        """Posts, distinct recipients, first and last arrival (seconds since the epoch), and the most in any second."""
        times = [at for _, at in self._arrivals]
        return {
            "posts": len(times),
            "distinct": len({to for to, _ in self._arrivals}),
            "first": min(times, default=0.0),
            "last": max(times, default=0.0),
            "peak_per_second": peak_per_second(times),
            "most_connections": self._most_connections,
        }


def peak_per_second(times: Sequence[float]) -> int:
    """The most of `times` (seconds) that lie in any one second."""
    window: deque[float] = deque()
    peak = 0
    for at in sorted(times):
        while window and window[0] <= at - 1.0:
            window.popleft()
        window.append(at)
        peak = max(peak, len(window))
    return peak


class _Connection(asyncio.Protocol):
    """HTTP/1.1 with keep-alive and Content-Length, as much as our clients speak."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._transport: asyncio.Transport | None = None
        self._unread = b""

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._sink.connected()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._sink.disconnected()

    @override
    def data_received(self, data: bytes) -> None:
        now = time.time()
        assert self._transport is not None  # noqa: S101 data comes after the connection was made
        data = self._unread + data
        start = 0
        while (head_end := data.find(b"\r\n\r\n", start)) >= 0:
            length = _LENGTH.search(data, start, head_end)
            body = head_end + 4
            end = body + (int(length[1]) if length else 0)
            if len(data) < end:
                break
            if data.find(_FAILING_PATH, start, head_end) >= 0:
                self._sink.refuse(self._transport)
            elif data.find(_MODEL_PATH, start, head_end) >= 0:
                self._sink.complete(self._transport)
            elif data.startswith(b"POST ", start):
                self._sink.message(data[body:end], now, self._transport)
            else:
                method, target, _ = data[start:head_end].split(b" ", 2)
                self._sink.control(method, target.decode(), self._transport)
            start = end
        self._unread = data[start:]


def _respond(transport: asyncio.Transport, answer: Any, *, status: int = 200) -> None:
    text = orjson.dumps(answer)
    transport.write(_HEAD % (status, len(text)) + text)


async def serve(sink: Sink, *, host: str = "127.0.0.1", port: int = 0) -> asyncio.Server:
    """Listen; port 0 is any free one."""
    loop = asyncio.get_running_loop()
    return await loop.create_server(lambda: _Connection(sink), host, port, backlog=4096)


def fastest_loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """What makes uvloop's loops, where uvloop is to be had."""
    with contextlib.suppress(ImportError):
        import uvloop  # noqa: PLC0415 not to be had on every platform

        return uvloop.new_event_loop
    return None


async def _run(latency: float, port: int) -> None:
    sink = Sink(latency=latency)
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    server = await serve(sink, port=port)
    taken = server.sockets[0].getsockname()[1]
    _say(event="SINK_STARTED", address=f"http://127.0.0.1:{taken}")
    await stop.wait()
    _say(event="SINK_STOPPED", **sink.report())


def _say(**line: Any) -> None:
    sys.stdout.buffer.write(orjson.dumps(line) + b"\n")
    sys.stdout.buffer.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--port", type=int, default=0, help="0 = any free one")
    parser.add_argument("--latency", type=float, default=0.0, help="seconds before each answer")
    given = parser.parse_args()
    with asyncio.Runner(loop_factory=fastest_loop()) as runner:
        runner.run(_run(given.latency, given.port))


if __name__ == "__main__":
    main()
