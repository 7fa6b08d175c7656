"""The way in: how many may stand in it, and where Meta's POSTs leave the others' way.

Those pass by the router and the middlewares, which cost more than all that is done with a webhook; and by aiohttp altogether when
they come in one piece (`short_way`).
"""

from __future__ import annotations

import asyncio
import resource
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final, TypeAlias, cast

from aiohttp import web
from typing_extensions import override

from waemitter.web.short_way import Receive, ShortWay

MOST_CONNECTIONS: Final = 2000
SPARE_FILES: Final = 100  # descriptors for all that is not a client
_BUSY: Final = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"

Answer: TypeAlias = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class Door:
    """Answers POSTs to `paths`, with `at_once` or else with `receive`; all the rest is the application's."""

    def __init__(self, paths: Iterable[str], receive: Answer, at_once: Receive) -> None:
        self._paths: Final = frozenset(paths)
        self._receive: Final = receive
        self._at_once: Final = at_once

    def short_way(
        self, onwards: Callable[[], asyncio.BaseProtocol], *, patience: float
    ) -> ShortWay:
        """Stand before what makes a protocol for each connection."""
        return ShortWay(self._paths, self._at_once, onwards=onwards, patience=patience)

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

    def __init__(
        self,
        app: web.Application,
        *,
        most_connections: int,
        keepalive_timeout: float,
        shutdown_timeout: float,
        **options: Any,
    ) -> None:
        super().__init__(
            app, keepalive_timeout=keepalive_timeout, shutdown_timeout=shutdown_timeout, **options
        )
        files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._most = max(1, min(most_connections, files - SPARE_FILES))
        self._patience = keepalive_timeout
        self._grace = shutdown_timeout
        self._short_way: ShortWay | None = None

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

    @override
    async def setup(self) -> None:
        await super().setup()
        door = self.app.get(DOOR)
        if door is not None:
            door.before(self.bounded)
            self._short_way = door.short_way(self.bounded, patience=self._patience)

    @override
    async def cleanup(self) -> None:
        if self._short_way is not None:
            for site in self.sites:
                await site.stop()  # nobody comes any more
            await self._short_way.close(timeout=self._grace)
        await super().cleanup()

    def _protocol(self) -> asyncio.BaseProtocol:
        short = self._short_way
        if len(self.bounded.connections) + (0 if short is None else len(short)) >= self._most:
            return _Busy()
        return self.bounded() if short is None else short()


class _Busy(asyncio.Protocol):
    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        connected = cast("asyncio.Transport", transport)
        connected.write(_BUSY)
        connected.close()
