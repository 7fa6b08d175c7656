"""A peer on a socket that answers as it is told, and the Graph client that asks it."""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from types import SimpleNamespace

import aiohttp

from waemitter.whatsapp.client import GraphClient, open_session

BODY = b'{"messaging_product":"whatsapp","to":"+14155550123"}'


TOKEN = "EAAsecret"


GRAPH = "https://graph.example/v24.0"


Answerer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Peer:
    """A socket that answers as it is told, and remembers every request."""

    def __init__(self, answer: Answerer) -> None:
        self._answer = answer
        self.requests: list[tuple[bytes, bytes]] = []
        self.heard = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = next(
                    (
                        line[15:]
                        for line in head.lower().split(b"\r\n")
                        if b"content-length" in line
                    ),
                    b"0",
                )
                self.requests.append((head, await reader.readexactly(int(length))))
                self.heard.set()
                await self._answer(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            return


@asynccontextmanager
async def serving(serve: Answerer):
    """Listen on a free port; at the end wait until every connection is closed."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve(reader, writer)
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    async with asyncio.TaskGroup() as connections:

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            connections.create_task(handle(reader, writer))

        async with await asyncio.start_server(accept, "127.0.0.1", 0) as server:
            yield server.sockets[0].getsockname()[1]


@asynccontextmanager
async def listening(answer: Answerer):
    peer = Peer(answer)
    async with serving(peer.serve) as port:
        yield peer, port


@asynccontextmanager
async def client(base_url, *, connections=4, total=5.0, connect=2.0, session=None):
    async with session or open_session(connections=connections) as opened:
        yield GraphClient(
            opened,
            base_url=base_url,
            phone_number_id="330900000000007",
            access_token=TOKEN,
            total_timeout=total,
            connect_timeout=connect,
        )


@asynccontextmanager
async def talking(answer, **settings):
    async with (
        listening(answer) as (peer, port),
        client(f"http://127.0.0.1:{port}/v24.0/", **settings) as graph,
    ):
        yield peer, graph


def says(text: bytes) -> Answerer:
    async def answer(_, writer):
        writer.write(text)
        await writer.drain()

    return answer


def says_and_closes(text: bytes) -> Answerer:
    async def answer(_, writer):
        writer.write(text)
        writer.close()

    return answer


async def hangs(reader, _):
    await reader.read()


async def resets(_, writer):
    linger = b"\x01\x00\x00\x00\x00\x00\x00\x00"
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    writer.transport.abort()


def response(status: int = 200, body: bytes = b"{}", **headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status} Words", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    head = "\r\n".join([*lines, "", ""])
    return head.encode() + body


class MockedResponse(aiohttp.ClientResponse):
    """aioresponses 0.7.9 does not pass what aiohttp 3.14 asks every response for."""

    def __init__(self, *args, **kwargs) -> None:
        kwargs.setdefault("stream_writer", SimpleNamespace(output_size=0))
        super().__init__(*args, **kwargs)
