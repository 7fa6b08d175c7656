"""The way in: how many may stand in it, and the short way for Meta's POSTs.

Those pass by the router and the middlewares, which cost more than all that is done with a webhook.
"""

from __future__ import annotations

import asyncio
import resource
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final, TypeAlias, cast

from aiohttp import web
from typing_extensions import override

MOST_CONNECTIONS: Final = 2000
SPARE_FILES: Final = 100  # descriptors for all that is not a client
_BUSY: Final = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"

Answer: TypeAlias = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class Door:
    """Answers POSTs to `paths` with `receive`; all else goes on to the application."""

    def __init__(self, paths: Iterable[str], receive: Answer) -> None:
        self._paths: Final = frozenset(paths)
        self._receive: Final = receive

    def before(self, server: web.Server) -> None:
        """Stand before what the server would have asked."""
        paths, receive = self._paths, self._receive
        onwards = server.request_handler

        async def answer(request: web.BaseRequest) -> web.StreamResponse:
            if request.method == "POST" and request.path in paths:
                return await receive(request)
            return await onwards(request)

        server.request_handler = answer


DOOR: Final = web.AppKey("door", Door)


class BoundedRunner(web.AppRunner):
    """A runner whose connections are counted: each may hold some memory, and a descriptor."""

    def __init__(self, app: web.Application, *, most_connections: int, **options: Any) -> None:
        super().__init__(app, **options)
        files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._most = max(1, min(most_connections, files - SPARE_FILES))

    @property
    def bounded(self) -> web.Server:
        """The server, once it is set up."""
        server = super().server
        assert server is not None  # noqa: S101 it was set up
        return server

    @property
    @override
    def server(self) -> Any:
        """What makes a protocol for each connection, as the sites ask for it."""
        return self._protocol

    def _protocol(self) -> asyncio.BaseProtocol:
        if len(self.bounded.connections) >= self._most:
            return _Busy()
        return self.bounded()


class _Busy(asyncio.Protocol):
    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        connected = cast("asyncio.Transport", transport)
        connected.write(_BUSY)
        connected.close()
