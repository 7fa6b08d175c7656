"""Meta's POSTs in one piece, over real sockets, and where a connection leaves the short way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from typing_extensions import override

from tests.serving import Site, serving, signed_post
from tests.support import eventually
from waemitter.web.short_way import ShortWay, Traveller

BODY = b'{"object": "whatsapp_business_account"}'
POST = signed_post(BODY)


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    async with serving() as site:
        yield site


@pytest.fixture
def handed_over(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What was read when connections left the short way."""
    found: list[bytes] = []
    hand_over = Traveller._hand_over

    def told(self: Traveller, data: bytes) -> None:
        found.append(data)
        hand_over(self, data)

    monkeypatch.setattr(Traveller, "_hand_over", told)
    return found


async def answer(reader: asyncio.StreamReader) -> tuple[int, dict[str, str]]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in head[1:-2])
    await reader.readexactly(int(headers["content-length"]))
    return int(head[0].split()[1]), headers


async def test_one_connection_brings_many_in_one_piece(
    site: Site, handed_over: list[bytes]
) -> None:
    reader, writer = await site.connect()
    for count in range(1, 4):
        writer.write(POST)
        status, headers = await answer(reader)
        assert (status, len(site.journal.entries)) == (200, count)
        assert headers["server"] == "waemitter"
        assert headers["date"].endswith(" gmt")
        assert headers["x-request-id"] == headers["x-correlation-id"]
    assert handed_over == []
    source, body, kept = site.journal.entries[0]
    assert (source, body) == ("whatsapp", BODY)
    assert kept.keys() == {"x-hub-signature-256", "x-correlation-id"}
    assert site.requests("accepted") == 3
    writer.close()


async def test_the_bytes_of_every_answer_are_the_same_by_both_ways(site: Site) -> None:
    reader, writer = await site.connect()
    writer.write(POST)
    _, short = await answer(reader)
    writer.write(b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n")
    assert (await answer(reader))[0] == 200
    writer.write(POST)
    status, long = await answer(reader)
    assert status == 200
    assert long.keys() - {"content-type"} == short.keys()
    writer.close()


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (POST.replace(b"sha256=", b"sha256=0"), 401),
        (signed_post(b"no JSON"), 400),
        (b"GET /webhooks/whatsapp HTTP/1.1\r\nHost: x\r\n\r\n", 403),
        (b"nonsense\r\n\r\n", 400),
    ],
)
async def test_what_is_refused_is_refused_by_the_long_way(
    site: Site, handed_over: list[bytes], data: bytes, status: int
) -> None:
    reader, writer = await site.connect()
    writer.write(data)
    assert (await answer(reader))[0] == status
    assert handed_over == [data]
    assert site.journal.entries == []
    writer.close()


async def test_what_comes_in_pieces_is_put_together(site: Site, handed_over: list[bytes]) -> None:
    reader, writer = await site.connect()
    writer.write(POST[:40])
    await eventually(lambda: handed_over)
    writer.write(POST[40:])
    assert (await answer(reader))[0] == 200
    writer.write(POST)
    assert (await answer(reader))[0] == 200
    assert [body for _, body, _ in site.journal.entries] == [BODY, BODY]
    writer.close()


async def test_what_comes_before_the_answer_waits_for_it(site: Site) -> None:
    site.journal.open.clear()
    reader, writer = await site.connect()
    writer.write(POST)
    await site.journal.asked.wait()
    writer.write(POST)
    await asyncio.sleep(0)
    site.journal.open.set()
    assert [(await answer(reader))[0] for _ in range(2)] == [200, 200]
    assert len(site.journal.entries) == 2
    writer.close()


@pytest.mark.parametrize("pieces", [[POST], [POST[:40], POST[40:]]], ids=["short", "long"])
async def test_by_neither_way_is_there_an_answer_before_the_body_is_stored(
    site: Site, handed_over: list[bytes], pieces: list[bytes]
) -> None:
    site.journal.open.clear()
    reader, writer = await site.connect()
    writer.write(pieces[0])
    if len(pieces) > 1:
        await eventually(lambda: handed_over)
        writer.write(pieces[1])
    await site.journal.asked.wait()
    early = asyncio.create_task(answer(reader))
    for _ in range(5):
        async with site.client.get("/health/live") as live:
            assert live.status == 200
    assert not early.done()
    assert site.journal.entries == []
    site.journal.open.set()
    assert (await early)[0] == 200
    assert [body for _, body, _ in site.journal.entries] == [BODY]
    writer.close()


async def test_two_at_once_are_both_answered(site: Site, handed_over: list[bytes]) -> None:
    reader, writer = await site.connect()
    writer.write(POST + POST)
    assert [(await answer(reader))[0] for _ in range(2)] == [200, 200]
    assert handed_over == [POST + POST]
    writer.close()


async def test_a_journal_that_fails_is_a_503_and_the_connection_goes_on(site: Site) -> None:
    site.journal.failure = RuntimeError("no")
    reader, writer = await site.connect()
    writer.write(POST)
    status, headers = await answer(reader)
    assert (status, headers["retry-after"]) == (503, "5")
    assert headers["content-type"].startswith("application/problem+json")
    assert site.requests("journal_unavailable") == 1
    site.journal.failure = None
    writer.write(POST)
    assert (await answer(reader))[0] == 200
    writer.close()


async def test_who_hangs_up_before_the_answer_is_stored_all_the_same(site: Site) -> None:
    site.journal.open.clear()
    _, writer = await site.connect()
    writer.write(POST)
    await site.journal.asked.wait()
    writer.close()
    await writer.wait_closed()
    site.journal.open.set()
    await eventually(lambda: site.journal.entries)
    await eventually(lambda: site.requests("accepted") == 1)


async def test_who_never_reads_is_not_read_for_ever() -> None:
    """The transport's own bound on what waits to be written stops the reading."""
    way = ShortWay((), lambda *_: False, onwards=asyncio.Protocol, patience=75)
    transport = Recorder()
    traveller = Traveller(way)
    traveller.connection_made(transport)
    traveller.pause_writing()
    traveller.resume_writing()
    assert transport.told == ["pause", "resume"]
    traveller.connection_lost(None)
    assert len(way) == 0


class Recorder(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__()
        self.told: list[str] = []

    @override
    def pause_reading(self) -> None:
        self.told.append("pause")

    @override
    def resume_reading(self) -> None:
        self.told.append("resume")
