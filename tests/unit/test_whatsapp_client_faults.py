"""What the Graph client knows of a request that was not answered: nothing was sent, or nobody knows."""

import asyncio
import socket
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest
from aiohttp.abc import AbstractResolver
from aiohttp.connector import Connection
from aioresponses import aioresponses
from typing_extensions import override

from tests.graph_peer import (
    BODY,
    GRAPH,
    client,
    hangs,
    resets,
    response,
    says,
    says_and_closes,
    serving,
    talking,
)
from tests.support import eventually
from waemitter.whatsapp.errors import ErrorClass, Refused
from waemitter.whatsapp.replies import Answered, NoAnswer, NotSent


@pytest.mark.parametrize(
    "answer",
    [
        resets,
        says_and_closes(b""),
        says_and_closes(b"HTTP/1.1 200 OK\r\nContent-Le"),
        says_and_closes(response(body=b'{"messages": []}')[:-3]),
        says_and_closes(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{"),
        says(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}"),
        says(b"HTTP/1.1 200 OK\r\nContent-Length: some\r\n\r\n{}"),
        says(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70_000),
        says(b"\x00\x01 this is no HTTP\r\n\r\n"),
        says(response(body=b"no gzip", Content_Encoding="gzip")),
    ],
    ids=[
        *("reset", "close", "half a head", "half a body", "half a chunk"),
        *("no chunk", "no length", "endless header", "garbage", "no gzip"),
    ],
)
async def test_a_connection_lost_after_the_request_leaves_the_outcome_open(answer):
    async with talking(answer) as (peer, graph):
        assert isinstance(await graph.send(BODY), NoAnswer)
    assert len(peer.requests) == 1


@pytest.mark.parametrize("ends", [resets, says_and_closes(b"")], ids=["reset", "close"])
async def test_a_connection_lost_while_the_body_is_written_leaves_the_outcome_open(ends):
    half_read = asyncio.Event()

    async def read_half(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(1000)
        half_read.set()
        await ends(reader, writer)

    body = b"x" * 1_000_000
    async with serving(read_half) as port, client(f"http://127.0.0.1:{port}") as graph:
        assert isinstance(await graph.send(body), NoAnswer)
    assert half_read.is_set()


async def test_silence_leaves_the_outcome_open():
    async with talking(hangs, total=0.2) as (peer, graph):
        assert await graph.send(BODY) == NoAnswer("TimeoutError")
    assert len(peer.requests) == 1


@pytest.mark.parametrize("length", [b"Content-Length: 1000000\r\n", b""], ids=["told", "not told"])
async def test_an_answer_that_trickles_is_cut_off_when_its_time_is_over(length):
    async def trickles(_, writer):
        writer.write(b"HTTP/1.1 200 OK\r\n" + length + b"\r\n")
        with suppress(ConnectionError):
            while True:
                writer.write(b" ")
                await writer.drain()
                await asyncio.sleep(0.01)

    async with asyncio.timeout(5), talking(trickles, total=0.2) as (peer, graph):
        assert await graph.send(BODY) == NoAnswer("TimeoutError")
    assert len(peer.requests) == 1


async def test_of_many_requests_each_has_a_time_of_its_own():
    first = True

    async def answer(reader, writer):
        nonlocal first
        silent, first = first, False
        await (hangs if silent else says(response()))(reader, writer)

    async with asyncio.timeout(5), talking(answer, total=0.3) as (peer, graph):
        hanging = asyncio.create_task(graph.send(BODY))
        await eventually(lambda: len(peer.requests) == 1)
        while not hanging.done():
            assert isinstance(await graph.send(BODY), Answered)
            await asyncio.sleep(0.01)
        first = True
        assert await graph.send(BODY) == NoAnswer("TimeoutError")
    assert await hanging == NoAnswer("TimeoutError")
    assert len(peer.requests) > 3


async def test_a_kept_connection_that_closes_leaves_the_outcome_open():
    answers = iter([says(response()), says_and_closes(b"")])

    async def answer(reader, writer):
        await next(answers)(reader, writer)

    async with talking(answer) as (peer, graph):
        assert isinstance(await graph.send(BODY), Answered)
        assert await graph.send(BODY) == NoAnswer("ServerDisconnectedError")
    assert len(peer.requests) == 2


async def test_a_refused_connection_sent_nothing():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    async with client(f"http://127.0.0.1:{port}") as graph:
        reply = await graph.send(BODY)
    assert isinstance(reply, NotSent)
    assert reply.reason.startswith("ClientConnectorError")


async def test_a_name_that_does_not_resolve_sent_nothing():
    class Nameless(AbstractResolver):
        @override
        async def resolve(self, host, port=0, family=socket.AF_INET):
            raise OSError(None, "Name or service not known")

        @override
        async def close(self) -> None:
            return

    session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(resolver=Nameless()))
    async with client(GRAPH, session=session) as graph:
        assert isinstance(await graph.send(BODY), NotSent)


async def test_a_peer_without_tls_was_sent_nothing():
    seen = bytearray()

    async def serve(reader, writer):
        seen.extend(await reader.read(1000))
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with serving(serve) as port, client(f"https://127.0.0.1:{port}") as graph:
        assert isinstance(await graph.send(BODY), NotSent)
    assert BODY not in seen


async def test_a_handshake_that_never_ends_sent_nothing():
    # A connect time-out beyond the total must not turn this into an open outcome.
    async with (
        serving(hangs) as port,
        client(f"https://127.0.0.1:{port}", total=0.3, connect=9.0) as graph,
    ):
        assert await graph.send(BODY) == NotSent("TimeoutError")


async def test_waiting_for_a_free_connection_in_vain_sent_nothing():
    async with (
        talking(hangs, connections=1, total=5.0, connect=0.1) as (peer, graph),
        asyncio.TaskGroup() as group,
    ):
        first = group.create_task(graph.send(BODY))
        await peer.heard.wait()
        assert await graph.send(BODY) == NotSent("TimeoutError")
        assert len(peer.requests) == 1
        first.cancel()


async def test_cancellation_is_raised():
    async with talking(hangs) as (peer, graph), asyncio.TaskGroup() as group:
        task = group.create_task(graph.send(BODY))
        await peer.heard.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


KEY: Any = SimpleNamespace(host="graph.example", port=443, ssl=True, is_ssl=True)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (aiohttp.ClientConnectorError(KEY, OSError(111, "refused")), NotSent),
        (aiohttp.ClientConnectorDNSError(KEY, OSError(-2, "no name")), NotSent),
        (aiohttp.ClientConnectorSSLError(KEY, OSError(1, "alert")), NotSent),
        (aiohttp.ClientConnectorCertificateError(KEY, OSError(1, "expired")), NotSent),
        (aiohttp.ConnectionTimeoutError("Connection timeout to host"), NotSent),
        (aiohttp.InvalidURL("graph"), NotSent),
        (aiohttp.SocketTimeoutError("read"), NoAnswer),
        (aiohttp.ServerTimeoutError(), NoAnswer),
        (aiohttp.ServerDisconnectedError(), NoAnswer),
        (aiohttp.ClientOSError(104, "reset"), NoAnswer),
        (aiohttp.ClientConnectionResetError("closing transport"), NoAnswer),
        (aiohttp.ClientConnectionError("Connector is closed"), NoAnswer),
        (aiohttp.ClientPayloadError("cut"), NoAnswer),
        (TimeoutError(), NoAnswer),
        (ConnectionResetError(104, "reset"), NoAnswer),
    ],
    ids=lambda value: type(value).__name__,
)
async def test_what_each_exception_of_the_session_means(error, kind):
    with aioresponses() as graph_api:
        graph_api.get(f"{GRAPH}/330900000000007?fields=health_status", exception=error)
        async with client(GRAPH) as graph:
            reply = await graph.health_status()
    assert isinstance(reply, Refused)
    assert reply.error_class is (ErrorClass.RETRY if kind is NotSent else ErrorClass.UNKNOWN)
    assert reply.message.startswith(type(error).__name__)


@pytest.mark.parametrize(
    "error",
    [
        aiohttp.ClientConnectorError(KEY, OSError(111, "refused")),
        aiohttp.ClientConnectionError("Connector is closed"),
        ConnectionResetError(104, "reset in the handshake"),
        TimeoutError(),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_whatever_fails_before_there_is_a_connection_sent_nothing(error):
    class Broken(aiohttp.TCPConnector):
        @override
        async def connect(self, *_):
            raise error

    async with client(GRAPH, session=aiohttp.ClientSession(connector=Broken())) as graph:
        reply = await graph.send(BODY)
    assert isinstance(reply, NotSent)
    assert reply.reason.startswith(type(error).__name__)


async def lent(connection: Connection) -> None:
    """Nothing happens to it."""


async def closing(connection: Connection) -> None:
    assert connection.transport is not None
    connection.transport.close()


async def closed(connection: Connection) -> None:
    await closing(connection)
    await eventually(lambda: connection.transport is None)


@pytest.mark.parametrize(
    ("fate", "kind"), [(lent, Answered), (closing, NotSent), (closed, NotSent)]
)
async def test_a_connection_that_closed_before_the_write_sent_nothing(fate, kind):
    class Lending(aiohttp.TCPConnector):
        @override
        async def connect(self, *arguments: Any) -> Connection:
            connection = await super().connect(*arguments)
            await fate(connection)
            return connection

    async with (
        talking(says(response()), session=aiohttp.ClientSession(connector=Lending())) as (
            peer,
            graph,
        ),
    ):
        reply = await graph.send(BODY)
    assert isinstance(reply, kind)
    assert len(peer.requests) == (kind is Answered)


async def test_a_cancelled_request_leaves_no_connection_behind_to_be_reused():
    async with talking(hangs, connections=1) as (peer, graph):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await graph.send(BODY)
        peer.heard.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(0.1):
                await graph.send(BODY)
    assert len(peer.requests) == 2
