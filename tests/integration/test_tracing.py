"""The life of a message and of a turn as spans: derived from events, exported by OTLP, and free when it is off."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from tests.event_rows import Stream, stream_at
from tests.outbox_rows import ago, status
from tests.support import eventually
from tests.whole import whole_daemon
from waemitter.jobs.event_stream.targets.tracing import TYPES, Tracing
from waemitter.observe import trace
from waemitter.outbox.retry import Outcome

TRACE, PARENT = 0x0AF7651916CD43DD8448EB211C80319C, 0xB7AD6B7169203331
TRACEPARENT = f"00-{TRACE:032x}-{PARENT:016x}-01"


class Traced:
    """The events of a stream, turned into spans."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.exporter = InMemorySpanExporter()

    async def spans(self, ratio: float = 1.0) -> list[ReadableSpan]:
        processor = SimpleSpanProcessor(self.exporter)
        target = Tracing(processor, service="shop", ratio=ratio)
        for event in await self.stream.drain("opentelemetry"):
            assert (await target.deliver(event)).outcome == "delivered"
        return list(self.exporter.get_finished_spans())


@pytest.fixture
async def traced(dsn: str) -> AsyncIterator[Traced]:
    async with stream_at(dsn) as stream:
        await stream.subscribe("opentelemetry", *TYPES)
        yield Traced(stream)


def named(spans: list[ReadableSpan]) -> dict[str, ReadableSpan]:
    return {span.name.removeprefix("waemitter."): span for span in spans}


def parent_of(span: ReadableSpan) -> int | None:
    return None if span.parent is None else span.parent.span_id


def own(span: ReadableSpan) -> int:
    assert span.context is not None
    return int(span.context.span_id)


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


async def test_a_message_is_a_trace_from_enqueue_to_read(traced: Traced) -> None:
    outbox = traced.stream.outbox
    message = await outbox.put(traceparent=TRACEPARENT, correlation_id="order-17")
    attempt = await outbox.claim_one()
    await outbox.settle(attempt)
    for word in ("delivered", "read"):
        await outbox.apply(status(word, attempt))

    found = await traced.spans()
    assert [span.name for span in found] == [
        f"waemitter.{name}" for name in ("enqueue", "claim", "send", "delivered", "read")
    ]
    assert {span.context.trace_id for span in found if span.context} == {TRACE}
    by_name = named(found)
    assert parent_of(by_name["enqueue"]) == PARENT
    first = own(by_name["enqueue"])
    assert {parent_of(by_name[name]) for name in ("claim", "send", "delivered", "read")} == {first}
    row = await outbox.row(message)
    assert by_name["claim"].start_time == round(row["created_at"].timestamp() * 1e6) * 1000
    assert by_name["send"].end_time == round(row["sent_at"].timestamp() * 1e6) * 1000
    assert by_name["read"].start_time == by_name["delivered"].end_time
    told = attributes(by_name["send"])
    assert told["messaging.message.id"] == f"wamid.{message}.1"
    assert told["waemitter.correlation_id"] == "order-17"
    assert "+14155550123" not in str([attributes(span) for span in found])
    assert by_name["send"].resource.attributes["service.name"] == "shop"


async def test_what_failed_is_an_error(traced: Traced) -> None:
    outbox = traced.stream.outbox
    refused = await outbox.put()
    await outbox.settle(await outbox.claim_one(), Outcome.FAILED, code=131026, reason="no")
    spans = named(await traced.spans())

    assert spans.keys() == {"enqueue", "claim", "send"}
    assert not spans["send"].status.is_ok
    assert attributes(spans["send"])["waemitter.error_code"] == 131026
    assert parent_of(spans["enqueue"]) is None
    traced.exporter.clear()
    await outbox.pool.execute("select waemitter.retry_message($1)", refused)
    await outbox.pool.execute("select waemitter.cancel_message($1)", refused)
    again = named(await traced.spans())
    assert again.keys() == {"enqueue", "claim", "send", "cancelled"}
    assert {own(again[name]) for name in spans} == {
        own(span) for span in spans.values()
    }  # told twice


async def test_each_attempt_is_a_span(traced: Traced) -> None:
    outbox = traced.stream.outbox
    message = await outbox.put()
    claimed = []
    for outcome in (Outcome.RETRY, None, Outcome.SENT):
        attempt = await outbox.claim_one()
        claimed.append((await outbox.row(message))["claimed_at"])
        if outcome is None:  # its daemon died
            await outbox.change(message, available_at=ago(1))
            assert (await outbox.claim()).lost == 1
        else:
            await outbox.settle(attempt, outcome, code=131000 if outcome is Outcome.RETRY else None)
        if outcome is not Outcome.SENT:
            await outbox.change(message, status="queued", hold=None, available_at=ago(1))
    spans = await traced.spans()

    sends = [span for span in spans if span.name == "waemitter.send"]
    assert [span.start_time for span in sends] == [
        round(at.timestamp() * 1e6) * 1000 for at in claimed
    ]
    assert [span.status.is_ok for span in sends] == [False, False, True]
    assert [attributes(span).get("waemitter.error_code") for span in sends] == [131000, None, None]
    assert [attributes(span).get("waemitter.attempts") for span in sends] == [None, None, 3]
    assert len({own(span) for span in sends}) == 3
    assert named(spans)["claim"].end_time == sends[0].start_time


async def test_an_attempt_that_failed_is_the_same_span_after_a_retry(traced: Traced) -> None:
    outbox = traced.stream.outbox
    message = await outbox.put()
    await outbox.settle(await outbox.claim_one(), Outcome.FAILED, code=131026, reason="no")
    failed = named(await traced.spans())["send"]
    traced.exporter.clear()
    await outbox.pool.execute("select waemitter.retry_message($1)", message)
    await outbox.settle(await outbox.claim_one())

    first, second = [span for span in await traced.spans() if span.name == "waemitter.send"]
    assert own(first) == own(failed) != own(second)
    assert first.start_time == failed.start_time
    assert attributes(first)["waemitter.error_code"] == 131026


async def test_who_enqueued_decides_what_is_exported_and_else_the_ratio(traced: Traced) -> None:
    outbox = traced.stream.outbox
    await outbox.put(traceparent=TRACEPARENT[:-2] + "00")
    await outbox.put(traceparent=TRACEPARENT)
    await outbox.put(traceparent="nonsense")
    await outbox.settle_all((await outbox.claim()).attempts)

    spans = await traced.spans(ratio=0.0)
    assert {span.context.trace_id for span in spans if span.context} == {TRACE}
    assert len(spans) == 3


async def test_the_functions_that_enqueue_keep_a_trace(traced: Traced) -> None:
    pool = traced.stream.outbox.pool
    for call in (
        "send_text('+14155550123', 'Hello', traceparent => $1)",
        "send_template('+14155550123', 'shipped', 'en', traceparent => $1)",
        "send_message('+14155550123', 'text', '{}', traceparent => $1)",
    ):
        await pool.execute(f"select waemitter.{call}", TRACEPARENT)
    kept = "select count(*) from waemitter.outbox_messages where traceparent = $1"

    assert await pool.fetchval(kept, TRACEPARENT) == 3


async def test_a_turn_and_its_replies_are_one_trace(traced: Traced) -> None:
    pool = traced.stream.outbox.pool
    turn = await pool.fetchval(
        "with c as (insert into waemitter.contacts (channel, wa_id) values ('default', '14155550123') returning id),"
        " v as (insert into waemitter.conversations (channel, contact_id) select 'default', id from c returning id)"
        " insert into waemitter.message_buffer (conversation_id, status) select id, 'processing' from v returning id"
    )
    correlation = await pool.fetchval(
        "update waemitter.message_buffer set status = 'completed', processed_at = clock_timestamp(), route = 'all',"
        " outcome = 'answered' where id = $1 returning correlation_id",
        turn,
    )
    outbox = traced.stream.outbox
    await outbox.put(correlation_id=correlation, idempotency_key=f"turn:{turn}:1")
    await outbox.settle(await outbox.claim_one())
    found = await traced.spans()
    spans = named(found)

    header = trace.read(trace.of_turn(turn, correlation, ratio=1.0))
    assert header is not None
    assert {span.context.trace_id for span in found if span.context} == {header.trace_id}
    assert own(spans["turn"]) == header.parent == parent_of(spans["enqueue"])
    assert attributes(spans["turn"])["waemitter.route"] == "all"


async def test_a_daemon_exports_by_otlp_and_forgets_its_subscription_when_it_is_off(
    dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    exported = list[ExportTraceServiceRequest]()

    async def collect(request: web.Request) -> web.Response:
        assert request.headers["x-key"] == "of the vendor"
        exported.append(ExportTraceServiceRequest.FromString(await request.read()))
        return web.Response(content_type="application/x-protobuf")

    app = web.Application()
    app.router.add_post("/v1/traces", collect)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    known = "select count(*) from waemitter.event_subscriptions"
    async with whole_daemon(
        dsn,
        monkeypatch,
        TRACING__ENABLED="true",
        _OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{runner.addresses[0][1]}",
        _OTEL_EXPORTER_OTLP_HEADERS="x-key=of the vendor",
    ) as daemon:
        assert await daemon.value(known) == 1
        await daemon.admin.execute(
            "select waemitter.send_text('+14155550123', 'Hello', traceparent => $1)", TRACEPARENT
        )
        await daemon.until("select delivered_at is not null from waemitter.event_outbox limit 1")
    await eventually(lambda: exported)
    await runner.cleanup()
    [resource] = exported[0].resource_spans
    names = [span.name for span in resource.scope_spans[0].spans]
    assert names == ["waemitter.enqueue", "waemitter.claim", "waemitter.send"]
    assert resource.scope_spans[0].spans[0].trace_id.hex() == f"{TRACE:032x}"
    async with whole_daemon(dsn, monkeypatch) as daemon:
        assert await daemon.value(known) == 0


def test_without_tracing_opentelemetry_is_not_imported() -> None:
    script = (
        "import sys, waemitter.daemon.main, waemitter.cli.main, waemitter.cli.run;"
        "print([name for name in sys.modules if name.split('.')[0] in ('opentelemetry', 'nats', 'aiokafka')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    assert done.stdout == "[]\n"
