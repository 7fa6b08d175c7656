import asyncio
import uuid
from contextlib import AsyncExitStack

import orjson
import pytest
from aiohttp import web

from tests.serving import SECRET, serving, signed_post
from waemitter.errors import UsageError
from waemitter.web.app import serve
from waemitter.web.health import Component
from waemitter.whatsapp.signature import sign

IDS = ("X-Request-ID", "X-Correlation-ID")
HEADERS = (*IDS, "X-Response-Time-Ms", "Server-Timing")


def is_uuid(text: str) -> bool:
    return uuid.UUID(text).hex == text


@pytest.fixture
async def site():
    async with serving() as site:
        yield site


@pytest.mark.parametrize("prefix", ["", "/functions/v1"])
@pytest.mark.parametrize(
    "path",
    [
        *("/health", "/health/live", "/health/ready", "/wa-webhook-core/health"),
        *("/wa-webhook/health", "/metrics", "/wa-webhook/metrics"),
    ],
)
async def test_every_address_and_its_alias_answers(site, prefix, path):
    async with site.client.get(prefix + path) as response:
        assert response.status == 200


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/health/live", 200),
        ("GET", "/metrics", 200),
        ("POST", "/webhooks/whatsapp", 401),
        ("GET", "/webhooks/whatsapp", 403),
        ("GET", "/nowhere", 404),
        ("DELETE", "/health", 405),
    ],
)
async def test_every_answer_carries_ids_and_its_time(site, method, path, status):
    async with site.client.request(method, path) as response:
        assert response.status == status
        assert is_uuid(response.headers["X-Request-ID"])
        assert response.headers["X-Correlation-ID"] == response.headers["X-Request-ID"]
        took = float(response.headers["X-Response-Time-Ms"])
        assert 0 < took < 5000
        assert (
            response.headers["Server-Timing"] == f"app;dur={response.headers['X-Response-Time-Ms']}"
        )
        assert "Python" not in response.headers["Server"]


async def test_ids_that_were_sent_are_echoed(site):
    sent = {"X-Request-ID": "req_1", "X-Correlation-ID": "order-17:shipped"}
    async with site.client.get("/health/live", headers=sent) as response:
        assert {name: response.headers[name] for name in IDS} == sent


@pytest.mark.parametrize("insane", ["a b", "x" * 129, "<script>", '"', "\u00fc"])
async def test_ids_that_only_look_like_one_are_replaced(site, insane):
    sent = dict.fromkeys(IDS, insane)
    async with site.client.get("/health/live", headers=sent) as response:
        for name in IDS:
            assert is_uuid(response.headers[name])


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "/nowhere", 404), ("PUT", "/metrics", 405)]
)
async def test_an_error_is_a_problem_document(site, method, path, status):
    async with site.client.request(method, path) as response:
        assert response.content_type == "application/problem+json"
        problem = orjson.loads(await response.read())
        assert problem["status"] == status
        assert problem.keys() == {"type", "title", "status", "detail"}


async def test_a_wrong_method_is_told_the_right_ones(site):
    async with site.client.put("/metrics") as response:
        assert "GET" in response.headers["Allow"]


async def test_a_bug_is_a_500_with_ids_and_a_line_that_quotes_nothing():
    def broken() -> Component:
        raise ValueError("the body said 14155550123")

    async with (
        serving(probes=[broken]) as site,
        site.client.get("/health", headers={"X-Correlation-ID": "c-9"}) as response,
    ):
        assert response.status == 500
        assert response.content_type == "application/problem+json"
        problem = orjson.loads(await response.read())
        assert "c-9" in problem["detail"]
        assert all(name in response.headers for name in HEADERS)
        (line,) = site.observed.lines("HTTP_REQUEST_FAILED")
        assert (line["route"], line["error"]) == ("/health", "ValueError")
        assert line["correlation_id"] == "c-9"
        assert "in test_a_bug" in line["where"]
        assert "the body said" not in site.observed.text()


async def test_metrics_are_text_unless_json_is_asked_for_by_name(site):
    for accept in ("*/*", "text/plain", "application/openmetrics-text;q=0.5, */*;q=0.1"):
        async with site.client.get("/metrics", headers={"Accept": accept}) as response:
            assert response.headers["Content-Type"].startswith("text/plain; version=0.0.4")
            assert "# TYPE waemitter_outbox_sends_total counter" in await response.text()
    async with site.client.get("/metrics", headers={"Accept": "application/json"}) as response:
        document = await response.json()
        assert document["waemitter_listener_connected"]["samples"][0]["value"] == 0


@pytest.mark.parametrize(
    ("components", "status", "word"),
    [
        ([Component("database", ok=True)], 200, "ok"),
        (
            [Component("database", ok=True), Component("bell", ok=False, required=False)],
            200,
            "degraded",
        ),
        ([Component("database", ok=False, detail="refused")], 503, "unavailable"),
    ],
)
async def test_readiness_follows_the_required_components(components, status, word):
    probes = [lambda c=c: c for c in components]
    async with serving(probes=probes) as site:
        for path in ("/health/ready", "/health"):
            async with site.client.get(path) as response:
                assert response.status == status
                assert (await response.json())["status"] == word
        async with site.client.get("/health/live") as response:
            assert response.status == 200


async def test_the_report_names_each_component_in_camel_case():
    probe = Component("database", ok=False, detail="connection refused")
    async with serving(probes=[lambda: probe]) as site, site.client.get("/health") as response:
        document = await response.json()
        assert response.headers["Cache-Control"] == "no-store"
        assert document["version"] == "1.2.3"
        assert document["uptimeSeconds"] >= 0
        assert document["components"] == [
            {"name": "database", "ok": False, "required": True, "detail": "connection refused"}
        ]


async def test_a_requested_stop_ends_readiness_while_requests_are_answered():
    stop = asyncio.Event()
    async with serving(stopping=stop.is_set) as site:
        async with site.client.get("/health/ready") as response:
            assert response.status == 200
        stop.set()
        async with site.client.get("/health/ready") as response:
            assert response.status == 503
            assert (await response.json())["status"] == "stopping"
        body = b"{}"
        headers = {"X-Hub-Signature-256": sign(SECRET, body)}
        async with site.client.post("/webhooks/whatsapp", data=body, headers=headers) as response:
            assert response.status == 200
        async with site.client.get("/health/live") as response:
            assert response.status == 200


async def test_routine_requests_write_no_line(site):
    for path in ("/health/live", "/metrics", "/nowhere"):
        async with site.client.get(path):
            pass
    assert site.observed.text() == ""


async def test_a_stranger_who_speaks_no_http_is_answered_and_not_quoted(site):
    for noise in (b"\x16\x03\x01 tls?\r\n\r\n", b"GET / HTTP/1.1\r\nsecret words\r\n\r\n"):
        reader, writer = await site.connect()
        writer.write(noise)
        assert (await reader.read()).startswith(b"HTTP/1.0 400")
        writer.close()
        await writer.wait_closed()
    assert site.observed.text() == ""


async def test_an_idle_connection_is_closed():
    async with serving(keepalive_timeout=0.05) as site:
        reader, writer = await site.connect()
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()


async def test_headers_that_dawdle_are_cut_off():
    async with serving(keepalive_timeout=0.05) as site:
        reader, writer = await site.connect()
        writer.write(b"GET /health/live HTTP/1.1\r\nHost: x\r\nX-Slow: ")
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()


async def test_on_leaving_idle_connections_close_and_a_request_in_hand_is_answered():
    async with AsyncExitStack() as stack, asyncio.TaskGroup() as group:
        server = await stack.enter_async_context(serving())
        server.journal.open.clear()
        idle, idle_writer = await server.connect()
        reader, writer = await server.connect()
        writer.write(signed_post(b"{}"))
        await server.journal.asked.wait()
        leaving = group.create_task(stack.aclose())
        assert await idle.read() == b""
        with pytest.raises(ConnectionRefusedError):
            await server.connect()
        assert not leaving.done()
        server.journal.open.set()
        assert (await reader.read()).startswith(b"HTTP/1.1 200")
        for each in (writer, idle_writer):
            each.close()
            await each.wait_closed()


async def test_a_taken_port_is_a_usage_error_that_names_the_settings(site):
    port = int(site.url.rpartition(":")[2])
    with pytest.raises(UsageError, match=rf"127\.0\.0\.1:{port} .*WAEMITTER_HTTP__PORT"):
        async with serve(web.Application(), host="127.0.0.1", port=port):
            pass


async def test_connections_are_bounded_and_who_comes_too_late_is_told_so():
    async with serving(most_connections=2) as site:
        held = [await site.connect() for _ in range(2)]
        for reader, writer in held:
            writer.write(b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n")
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
        reader, late = await site.connect()
        answer = await reader.read()
        assert answer.startswith(b"HTTP/1.1 503")
        assert b"Connection: close" in answer
        for writer in (held[0][1], late):
            writer.close()
            await writer.wait_closed()

        async def room() -> int:
            async with site.client.get("/health/live") as response:
                return response.status

        while await room() != 200:  # noqa: ASYNC110 the server has yet to hear of the farewell
            await asyncio.sleep(0.01)
        held[1][1].close()
        await held[1][1].wait_closed()


async def test_a_bug_on_the_short_way_is_a_500_with_ids_and_a_line(monkeypatch):
    def broken(*_: object) -> bool:
        raise ValueError("the body said 14155550123")

    monkeypatch.setattr("waemitter.whatsapp.signature.verify", broken)
    headers = {"X-Hub-Signature-256": sign(SECRET, b"{}"), "X-Correlation-ID": "c-9"}
    async with (
        serving() as site,
        site.client.post("/webhooks/whatsapp", data=b"{}", headers=headers) as response,
    ):
        assert response.status == 500
        assert all(name in response.headers for name in HEADERS)
        assert "c-9" in orjson.loads(await response.read())["detail"]
        (line,) = site.observed.lines("HTTP_REQUEST_FAILED")
        assert (line["route"], line["correlation_id"]) == ("/webhooks/whatsapp", "c-9")
        assert "the body said" not in site.observed.text()
