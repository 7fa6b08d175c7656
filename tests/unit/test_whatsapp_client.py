import asyncio
import socket
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from types import SimpleNamespace
from typing import Any

import aiohttp
import orjson
import pytest
from aiohttp.abc import AbstractResolver
from aiohttp.connector import Connection
from aioresponses import aioresponses
from typing_extensions import override

from tests.support import eventually
from waemitter.whatsapp.client import GraphClient, open_session
from waemitter.whatsapp.errors import ErrorClass, Refused
from waemitter.whatsapp.health import Health
from waemitter.whatsapp.replies import Answered, NoAnswer, NotSent

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


async def test_a_send_is_one_post_with_the_body_untouched():
    async with talking(says(response(body=b'{"a": 1}'))) as (peer, graph):
        assert await graph.send(BODY) == Answered(200, b'{"a": 1}')
    ((head, body),) = peer.requests
    lines = head.decode().split("\r\n")
    assert lines[0] == "POST /v24.0/330900000000007/messages HTTP/1.1"
    assert {f"Authorization: Bearer {TOKEN}", "Content-Type: application/json"} <= set(lines)
    assert body == BODY


@pytest.mark.parametrize("status", [200, 301, 400, 429, 503])
async def test_every_status_is_an_answer(status):
    told = response(status, b"<html>", Location="/elsewhere", X_Business_Use_Case_Usage="{}")
    async with talking(says(told)) as (peer, graph):
        assert await graph.send(BODY) == Answered(status, b"<html>", None, "{}")
    assert len(peer.requests) == 1


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry_After": "7"}, 7),
        ({"Retry_After": "soon"}, None),
        ({"Retry_After": "-1"}, None),
        ({"Retry_After": "Sun, 22 Nov 2026 10:01:30 GMT"}, None),
        (
            {
                "Retry_After": "Sun, 22 Nov 2026 10:01:30 GMT",
                "Date": "Sun, 22 Nov 2026 10:00:00 GMT",
            },
            90,
        ),
        (
            {
                "Retry_After": "Sun, 22 Nov 2026 09:00:00 GMT",
                "Date": "Sun, 22 Nov 2026 10:00:00 GMT",
            },
            0,
        ),
    ],
)
async def test_retry_after_is_in_seconds(headers, seconds):
    async with talking(says(response(429, **headers))) as (_, graph):
        reply = await graph.send(BODY)
    assert isinstance(reply, Answered)
    assert reply.retry_after == seconds


async def test_a_connection_is_kept_for_the_next_message():
    ports = set()

    async def answer(_, writer):
        ports.add(writer.get_extra_info("peername"))
        writer.write(response())

    async with talking(answer) as (peer, graph):
        for _ in range(3):
            await graph.send(BODY)
    assert (len(peer.requests), len(ports)) == (3, 1)


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


async def test_the_health_probe_asks_the_number_itself():
    status = {"health_status": {"can_send_message": "BLOCKED", "entities": []}}
    async with talking(says(response(body=orjson.dumps(status)))) as (peer, graph):
        assert await graph.health_status() == Health("BLOCKED", ())
    ((head, body),) = peer.requests
    assert head.startswith(b"GET /v24.0/330900000000007?fields=health_status HTTP/1.1\r\n")
    assert body == b""


class MockedResponse(aiohttp.ClientResponse):
    """aioresponses 0.7.9 does not pass what aiohttp 3.14 asks every response for."""

    def __init__(self, *args, **kwargs) -> None:
        kwargs.setdefault("stream_writer", SimpleNamespace(output_size=0))
        super().__init__(*args, **kwargs)


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


async def test_a_provisional_response_is_not_the_answer():
    told = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + response(body=b'{"a": 1}')
    async with talking(says(told)) as (_, graph):
        assert await graph.send(BODY) == Answered(200, b'{"a": 1}')


async def test_a_response_that_ends_with_the_connection_is_read_to_its_end():
    async with talking(says_and_closes(b"HTTP/1.1 502 Bad\r\n\r\n<html>")) as (_, graph):
        assert await graph.send(BODY) == Answered(502, b"<html>")


async def test_a_token_that_would_break_out_of_its_header_is_refused():
    async with open_session(connections=1) as session:
        with pytest.raises(ValueError, match="line break"):
            GraphClient(
                session,
                base_url=GRAPH,
                phone_number_id="330900000000007",
                access_token="EAA\r\nX-Evil: 1",
                total_timeout=5,
                connect_timeout=2,
            )


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


async def test_a_health_probe_with_an_expired_token_is_refused():
    with aioresponses() as graph_api:
        graph_api.get(
            f"{GRAPH}/330900000000007?fields=health_status",
            status=401,
            payload={"error": {"code": 190, "message": "Expired"}},
            response_class=MockedResponse,
        )
        async with client(GRAPH) as graph:
            assert await graph.health_status() == Refused(ErrorClass.PAUSE_ACCOUNT, 190, "Expired")
