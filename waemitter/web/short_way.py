"""The shortest way in: a POST of Meta's that comes in one piece is answered where it arrives, without aiohttp's request handler.

What is done with a webhook costs less than to make a request of it: a stream, a task, a URL, a dictionary of headers, a response.
So each connection begins here. A plain request, whole in what was read at once, goes to the receiver. The first that is anything
else (a GET, a large body, one that arrives in pieces, an unusual header, a body that will be refused) hands the connection over
to aiohttp for good, with every byte that was read: there is one place that refuses, waits for slow senders and bounds them.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Final, NamedTuple, TypeAlias, cast

from typing_extensions import override

Headers: TypeAlias = Mapping[str, str]
"""By their names in lower case."""

Reply: TypeAlias = Callable[[bytes], None]
"""Takes the whole answer, once."""

Receive: TypeAlias = Callable[[Headers, bytes, Reply], bool]
"""Take a body, and reply when it is stored. False: it is not taken, and there will be no reply."""

LARGEST: Final = 256 * 1024
"""Bytes of a request that may come in one piece."""

# Strict where HTTP is lenient: what two servers in a row could read in two ways is left to aiohttp.
_START: Final = re.compile(rb"POST (/[!-~]*) HTTP/1\.1")
_FIELD: Final = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*([\x20-\x7e]*)")
_DIGEST: Final = re.compile(rb"(sha(?:1|256)=[0-9a-f]+)(?=\r\n|\Z)")
_CUT: Final = b"\0"  # in no head that is read
_SHORT: Final = 2048
"""Bytes of a head that is worth remembering: a sender's are few, but for the digests of the bodies."""
_UNUSUAL: Final = frozenset(
    {
        *("transfer-encoding", "content-encoding", "expect", "upgrade", "trailer", "te"),
        *("connection", "proxy-connection", "http2-settings"),
    }
)
_KEPT_OPEN: Final = {"connection": "keep-alive"}
_LENGTH: Final = re.compile(r"[0-9]{1,7}", re.ASCII)


class Plain(NamedTuple):
    """A request without any peculiarity, whole."""

    path: str
    headers: Headers
    body: bytes


def plain(data: bytes) -> Plain | None:
    """Read a POST that is all of `data`, and nothing but that; None: it is something else, or not whole."""
    end = data.find(b"\r\n\r\n")
    parts = _DIGEST.split(data[: max(end, 0)])
    head = (_known_head if end <= _SHORT else _head)(*parts[::2])
    if head is None or head.length != len(data) - end - 4:
        return None
    headers = dict(head.headers)
    for name, digest in zip(head.digests, parts[1::2], strict=True):
        headers[name] = digest.decode("ascii")
    return Plain(head.path, headers, data[end + 4 :])


class _Head(NamedTuple):
    """All of a head but its digests, and the names of the headers that have one, in their order."""

    path: str
    headers: Headers
    digests: Sequence[str]
    length: int


def _head(*parts: bytes) -> _Head | None:
    """Read what stands between the digests of a head."""
    if any(_CUT in part for part in parts):
        return None
    start, *lines = _CUT.join(parts).split(b"\r\n")
    found = _START.fullmatch(start)
    fields = [_field(line.removesuffix(_CUT)) for line in lines]
    if found is None or None in fields:
        return None
    headers = dict(cast("list[tuple[str, str]]", fields))
    digests = [name for name, line in zip(headers, lines, strict=False) if line.endswith(_CUT)]
    length = headers.get("content-length", "")
    if (
        len(headers) != len(lines)  # one of them came twice
        or any(headers[name] for name in digests)  # more than a digest
        or not _LENGTH.fullmatch(length)
        or not (_UNUSUAL.isdisjoint(headers) or _only_kept_open(headers))
    ):
        return None
    return _Head(found[1].decode("ascii"), headers, digests, int(length))


_known_head = lru_cache(maxsize=1024)(_head)


def _field(line: bytes) -> tuple[str, str] | None:
    found = _FIELD.fullmatch(line)
    if found is None:
        return None
    return found[1].decode("ascii").lower(), found[2].decode("ascii").strip(" ")


def _only_kept_open(headers: Headers) -> bool:
    unusual = _UNUSUAL.intersection(headers)
    return all(headers[name].lower() == _KEPT_OPEN.get(name) for name in unusual)


class ShortWay:
    """Makes a protocol for each connection, and knows those that have not been handed over."""

    def __init__(
        self,
        paths: Iterable[str],
        receive: Receive,
        *,
        onwards: Callable[[], asyncio.BaseProtocol],
        patience: float,
    ) -> None:
        """`onwards()`: the protocol of the long way. `patience`: seconds that a connection may be idle."""
        self.paths: Final = frozenset(paths)
        self.receive: Final = receive
        self.onwards: Final = onwards
        self.closing = False
        self._patience = patience
        self._travellers: Final = set[Traveller]()
        self._sweep: asyncio.TimerHandle | None = None
        self._left: Final = asyncio.Event()

    def __len__(self) -> int:
        return len(self._travellers)

    def __call__(self) -> asyncio.Protocol:
        return Traveller(self)

    def entered(self, traveller: Traveller) -> None:
        self._travellers.add(traveller)
        if self._sweep is None:
            self._sweep_later()

    def left(self, traveller: Traveller) -> None:
        self._travellers.discard(traveller)
        self._left.set()

    async def close(self, *, timeout: float) -> None:
        """Take no more requests; those in hand get `timeout` seconds."""
        self.closing = True
        for each in list(self._travellers):
            each.close_if_idle()
        try:
            async with asyncio.timeout(timeout):
                while self._travellers:
                    self._left.clear()
                    await self._left.wait()
        except TimeoutError:
            for each in list(self._travellers):
                each.abort()
        if self._sweep is not None:
            self._sweep.cancel()

    def _sweep_later(self) -> None:
        self._sweep = asyncio.get_running_loop().call_later(self._patience / 4, self._swept)

    def _swept(self) -> None:
        """One timer for all: to move one with each request costs more than to look at all now and then."""
        self._sweep = None
        long_ago = asyncio.get_running_loop().time() - self._patience
        for each in list(self._travellers):
            if each.idle_since < long_ago:
                each.close_if_idle()
        if self._travellers and not self.closing:
            self._sweep_later()


class Traveller(asyncio.Protocol):
    """A connection on the short way."""

    __slots__ = ("_answering", "_clock", "_early", "_transport", "_way", "idle_since")

    def __init__(self, way: ShortWay) -> None:
        self._way = way
        self._transport: asyncio.Transport | None = None
        self._clock = asyncio.get_running_loop().time
        self._answering = False
        self._early = b""  # what came before the answer to what came before it
        self.idle_since = self._clock()

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._way.entered(self)

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._way.left(self)

    @override
    def data_received(self, data: bytes) -> None:
        if self._transport is None:
            return
        if self._answering:
            self._early += data
            self._transport.pause_reading()
            return
        request = plain(data) if len(data) <= LARGEST else None
        if request is None or request.path not in self._way.paths:
            self._hand_over(data)
            return
        self._answering = True
        if not self._way.receive(request.headers, request.body, self._reply):
            self._answering = False
            self._hand_over(data)

    @override
    def pause_writing(self) -> None:
        """Whoever does not read what is answered is not read either."""
        if self._transport is not None:
            self._transport.pause_reading()

    @override
    def resume_writing(self) -> None:
        if self._transport is not None and not self._early:
            self._transport.resume_reading()

    def close_if_idle(self) -> None:
        if not self._answering and self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _reply(self, answer: bytes) -> None:
        self._answering = False
        self.idle_since = self._clock()
        if self._transport is None:
            return
        self._transport.write(answer)
        if self._way.closing:
            self._transport.close()
        elif self._early:
            self._hand_over(self._early)

    def _hand_over(self, data: bytes) -> None:
        transport = self._transport
        assert transport is not None  # noqa: S101 it is connected
        self._transport = None
        onwards = cast("asyncio.Protocol", self._way.onwards())
        transport.set_protocol(onwards)
        onwards.connection_made(transport)
        self._way.left(self)
        transport.resume_reading()
        onwards.data_received(data)
