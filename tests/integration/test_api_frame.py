"""The frame around every operation: bounds on time, hostile headers and addresses."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from http import HTTPStatus
from typing import Any

import pytest

from tests.serving import MemoryAudit, Site, authenticator, serving
from tests.shop import shop_at
from waemitter.web.api.model import Answered, Body, Nothing
from waemitter.web.api.operation import Answer, Call, Operation
from waemitter.web.api.serving import Api


class Said(Answered):
    word: str


class Word(Body):
    word: str


async def hang(_: Call[Nothing, Nothing]) -> Answer:
    await asyncio.Event().wait()
    raise AssertionError("it never returns")


async def echo(call: Call[Nothing, Word]) -> Answer:
    return Answer(document=Said(word=call.body.word))


HANG: Operation[Nothing, Nothing] = Operation(
    name="hang",
    method="POST",
    path="/api/hang",
    summary="Never answers.",
    scope="read",
    params=Nothing,
    body=Nothing,
    handle=hang,
    answers={HTTPStatus.OK: Said},
    audited=True,
    time=0.05,
)
ECHO: Operation[Nothing, Word] = Operation(
    name="echo",
    method="POST",
    path="/api/echo",
    summary="Says it again.",
    scope="read",
    params=Nothing,
    body=Word,
    handle=echo,
    answers={HTTPStatus.OK: Said},
    max_body=100,
)


async def raw(site: Site, text: bytes) -> bytes:
    reader, writer = await site.connect()
    writer.write(text)
    line = await reader.readline()
    writer.close()
    await writer.wait_closed()
    return line


async def test_an_operation_has_its_time_and_what_did_not_happen_is_not_on_record() -> None:
    audit = MemoryAudit()
    async with (
        serving(api=Api([HANG], auth=authenticator(), audit=audit)) as site,
        site.client.post("/api/hang") as answer,
    ):
        assert answer.status == 503
        assert answer.headers["Retry-After"] == "5"
        assert answer.content_type == "application/problem+json"
    assert audit.entries == []


async def test_an_operation_s_own_bound_of_its_body() -> None:
    async with serving(api=Api([ECHO], auth=authenticator(), audit=MemoryAudit())) as site:
        for length, status in ((80, 200), (100, 413)):
            async with site.client.post("/api/echo", json={"word": "x" * length}) as answer:
                assert answer.status == status


async def test_a_body_that_dawdles_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("waemitter.web.api.serving.READ_TIME", 0.05)
    async with serving(api=Api([ECHO], auth=authenticator(), audit=MemoryAudit())) as site:
        head = b"POST /api/echo HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        assert b" 408 " in await raw(site, head + b'Content-Length: 50\r\n\r\n{"word"')


@pytest.mark.parametrize(
    "header", [b"Bearer \xff\xfe", b"Bearer \xc3\xbc", b"\xff", b"Bearer " + b"x" * 4000]
)
async def test_no_header_is_strange_enough_for_a_bug(header: bytes) -> None:
    api = Api([ECHO], auth=authenticator({"s3cret": ["read"]}), audit=MemoryAudit())
    async with serving(api=api) as site:
        head = b"POST /api/echo HTTP/1.1\r\nHost: localhost\r\nX-User-Id: \xff\r\n"
        line = await raw(site, head + b"Authorization: " + header + b"\r\n\r\n")
        assert b" 401 " in line
        assert not site.observed.lines("HTTP_REQUEST_FAILED")


@pytest.mark.parametrize(
    "query", ["channel=%00", "channel=a%20b", "status=%00", "channel=%ff", "channel=" + "x" * 64]
)
async def test_no_address_is_strange_enough_for_a_bug(dsn: str, query: str) -> None:
    async with shop_at(dsn) as shop:
        code, _ = await shop.call("GET", f"/api/messages?{query}")
        assert code == 422
        assert not shop.site.observed.lines("HTTP_REQUEST_FAILED")


async def test_where_nothing_may_be_changed_one_may_look_and_ring() -> None:
    def operation(method: Any, scope: Any) -> Operation[Nothing, Nothing]:
        return replace(HANG, method=method, scope=scope, path=f"/{method}/{scope}", handle=say)

    async def say(_: Call[Nothing, Nothing]) -> Answer:
        return Answer(document=Said(word="done"))

    asked = [
        ("GET", "read"),
        ("GET", "jobs"),
        ("POST", "trigger"),
        ("POST", "send"),
        ("DELETE", "admin"),
    ]
    api = Api(
        [operation(method, scope) for method, scope in asked],
        auth=authenticator({"key": ("admin",)}),
        audit=MemoryAudit(),
        read_only=True,
    )
    found = {}
    async with serving(api=api) as site:
        for method, scope in asked:
            request = site.client.request(
                method, f"/{method}/{scope}", headers={"Authorization": "Bearer key"}
            )
            async with request as answer:
                found[method, scope] = answer.status
                if answer.status != 200:
                    assert "WAEMITTER_HTTP__READ_ONLY" in (await answer.json())["detail"]
    assert found == dict(zip(asked, [200, 200, 200, 403, 403], strict=True))
