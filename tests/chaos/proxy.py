"""A TCP proxy that loses connections on purpose, loudly or silently."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

Ends = tuple[asyncio.StreamReader, asyncio.StreamWriter]

_RESET: Final = struct.pack("ii", 1, 0)  # SO_LINGER: a close sends a reset


@dataclass(eq=False, slots=True)
class _Link:
    ours: asyncio.StreamWriter
    theirs: asyncio.StreamWriter
    mute: bool = False

    def cut(self) -> None:
        for writer in (self.ours, self.theirs):
            bound: socket.socket = writer.get_extra_info("socket")
            if bound.family != socket.AF_UNIX:
                with contextlib.suppress(OSError):
                    bound.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            writer.transport.abort()


class Proxy:
    """`connect` reaches what is behind it, and raises OSError when there is nothing."""

    def __init__(self, connect: Callable[[], Awaitable[Ends]]) -> None:
        self._connect = connect
        self._links: set[_Link] = set()
        self._serving: set[asyncio.Task[None]] = set()
        self.port = 0

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[Proxy]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            self.cut()
            await server.wait_closed()
            await asyncio.gather(*self._serving, return_exceptions=True)

    @property
    def connections(self) -> int:
        return len(self._links)

    def cut(self) -> int:
        """Reset every connection; how many there were."""
        links = list(self._links)
        for link in links:
            link.cut()
        return len(links)

    async def half_open(self, seconds: float) -> int:
        """Swallow all that the present connections carry, and cut them only then; how many there were."""
        links = list(self._links)
        for link in links:
            link.mute = True
        await asyncio.sleep(seconds)
        for link in links:
            link.cut()
        return len(links)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving = asyncio.current_task()
        assert serving is not None
        self._serving.add(serving)
        serving.add_done_callback(self._serving.discard)
        try:
            theirs, behind = await self._connect()
        except OSError:
            writer.transport.abort()
            return
        link = _Link(writer, behind)
        self._links.add(link)
        ways = [
            asyncio.create_task(_pump(link, reader, behind)),
            asyncio.create_task(_pump(link, theirs, writer)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            for each in (writer, behind):
                each.close()
            self._links.discard(link)


async def _pump(link: _Link, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await source.read(65_536):
            if not link.mute:
                sink.write(data)
                await sink.drain()
