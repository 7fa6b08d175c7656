"""A POST on aiohttp's connections, without its session.

A daemon sends the same request a thousand times a second, to one address, with one set of headers: only the body differs. The
session builds URL, headers, cookies, redirects, a writer task and a response object for each, which is most of what a message
costs. So the head is written once, and connections, DNS, TLS, keep-alive and the parser stay aiohttp's: `connect()` of its
connector is public, and lends a connection whose protocol reads a response.

It also says plainly what the session's exceptions leave to guess: nothing had left before `connect()` returned.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final, NamedTuple

import aiohttp
from aiohttp.http_exceptions import HttpProcessingError
from multidict import CIMultiDictProxy
from yarl import URL

_INFORMATIONAL: Final = range(100, 200)


class NotConnected(Exception):
    """There was no connection, or none any more, so no byte of the request left; the cause is aiohttp's."""


class Broken(Exception):
    """The request left, in whole or in part, and no whole response came; the cause is aiohttp's."""


class Response(NamedTuple):
    """`headers` in any case."""

    status: int
    headers: CIMultiDictProxy[str]
    body: bytes


class Wire:
    """POSTs to one URL. Time-outs are in seconds: until there is a connection, and until the whole response is there."""

    def __init__(
        self,
        connector: aiohttp.BaseConnector,
        url: URL,
        *,
        headers: Mapping[str, str],
        connect_timeout: float,
        total_timeout: float,
    ) -> None:
        """Raises ValueError for a header that could not be written as one line."""
        self._connector = connector
        self._asking = aiohttp.ClientRequest("POST", url)  # tells the connector where to
        self._connecting = aiohttp.ClientTimeout(connect=connect_timeout)
        self._deadlines = _Deadlines(total_timeout)
        lines = {"Host": self._asking.headers["Host"], **headers}
        if any(not value.isprintable() for value in lines.values()):
            raise ValueError("a header holds a line break or another control character")
        head = [f"POST {url.raw_path_qs} HTTP/1.1"]
        head += [f"{name}: {value}" for name, value in lines.items()]
        self._head = "\r\n".join([*head, "Content-Length: "]).encode()

    async def post(self, body: bytes) -> Response:
        """Raises NotConnected or Broken; cancellation may come after the request has left."""
        deadline = self._deadlines.from_now()
        try:
            connection = await self._connector.connect(self._asking, [], self._connecting)
        except (aiohttp.ClientError, OSError) as error:  # a TimeoutError is an OSError
            raise NotConnected from error
        try:
            response = await self._exchange(connection, body, deadline)
        except (aiohttp.ClientError, HttpProcessingError, OSError) as error:
            connection.close()
            raise Broken from error if self._deadlines.in_time(deadline) else TimeoutError()
        except BaseException:
            connection.close()
            raise
        connection.release()
        return response

    async def _exchange(
        self, connection: aiohttp.connector.Connection, body: bytes, deadline: float
    ) -> Response:
        protocol = connection.protocol
        if protocol is None or protocol.transport is None or protocol.transport.is_closing():
            # closed since it was lent: a write would go nowhere
            raise NotConnected from aiohttp.ServerDisconnectedError()
        transport = protocol.transport
        self._deadlines.begin(transport, deadline)
        try:
            protocol.set_response_params(read_until_eof=True)
            transport.write(b"%b%d\r\n\r\n%b" % (self._head, len(body), body))
            message, content = await protocol.read()
            while message.code in _INFORMATIONAL:
                message, content = await protocol.read()
            content_read = await content.read()
        finally:
            self._deadlines.end(transport)
        if not self._deadlines.in_time(
            deadline
        ):  # of an answer without a length, a cut looks like the end
            raise TimeoutError
        return Response(message.code, message.headers, content_read)


class _Deadlines:
    """Cuts connections whose time is over. All have the same time, so that one timer, for the oldest, does for them all.

    asyncio.timeout() would cost each message a timer of its own.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._open: dict[asyncio.Transport, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def from_now(self) -> float:
        return asyncio.get_running_loop().time() + self._seconds

    def in_time(self, deadline: float) -> bool:
        return asyncio.get_running_loop().time() < deadline

    def begin(self, transport: asyncio.Transport, deadline: float) -> None:
        self._open[transport] = deadline
        if self._timer is None or deadline < self._timer.when():  # it waited for its connection
            self._set_timer(deadline)

    def end(self, transport: asyncio.Transport) -> None:
        del self._open[transport]

    def _cut(self) -> None:
        now = asyncio.get_running_loop().time()
        for transport, deadline in self._open.items():
            if deadline <= now:
                transport.abort()
        self._timer = None
        if later := [deadline for deadline in self._open.values() if deadline > now]:
            self._set_timer(min(later))

    def _set_timer(self, deadline: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_at(deadline, self._cut)
