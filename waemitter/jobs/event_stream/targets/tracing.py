"""OpenTelemetry: what messages and turns went through, as spans, from the events that tell of it.

A span is written when what it tells of is over, with the times that the database keeps. So every daemon can tell of every
message, whoever sent it, and a daemon without tracing does no work for it.

    enqueue ─┬─ claim      from the insert to the last claim: the queue
             ├─ send       from there to Meta's answer, or to the failure
             ├─ delivered  from the answer to the receipt
             └─ read
    turn                   from the first message of a window to the commit; the replies are in its trace
"""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import Iterator, Mapping
from typing import Any, Final

import orjson
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanContext, SpanKind, TraceFlags
from opentelemetry.trace.status import Status, StatusCode
from typing_extensions import override

from waemitter import __version__
from waemitter.jobs.event_stream.deliverer import Target
from waemitter.jobs.event_stream.delivery import DELIVERED, Delivery
from waemitter.jobs.event_stream.event import Event
from waemitter.observe import trace

TYPES: Final = (
    *("message.sent", "message.delivered", "message.read", "message.failed"),
    *("message.expired", "message.cancelled", "message.suppressed"),
    *("turn.completed", "turn.failed"),
)
PATIENCE: Final = 3.0
"""Seconds for one export, its retries included: a stop waits for the last one."""
_SAMPLED: Final = TraceFlags(TraceFlags.SAMPLED)
_REPLY: Final = "turn:"
"""What the idempotency key of a turn's reply begins with; its number follows."""


class Tracing(Target):
    def __init__(self, processor: SpanProcessor, *, service: str, ratio: float) -> None:
        """`ratio`: the share of the traces that are exported, where whoever enqueued did not decide."""
        self._processor = processor
        self._resource = Resource.create({"service.name": service, "service.version": __version__})
        self._ratio = ratio

    @override
    async def deliver(self, event: Event) -> Delivery:
        """Hand the spans over; the processor exports them in its own time, and drops them when nobody takes them."""
        facts = orjson.loads(event.data)
        context = _context(event, facts)
        wanted = context.sampled
        if trace.sampled(context.trace_id, self._ratio) if wanted is None else wanted:
            make = _turn_spans if event.type.startswith("turn.") else _message_spans
            for span in make(_Maker(event, facts, context, self._resource)):
                self._processor.on_end(span)
        return DELIVERED

    @override
    async def aclose(self) -> None:
        await asyncio.to_thread(self._processor.shutdown)  # it exports what it has


def exporting(endpoint: str, headers: Mapping[str, str]) -> SpanProcessor:
    """A processor that exports by OTLP over HTTP, in a thread of its own; the SDK's OTEL_… variables hold too."""
    exporter = OTLPSpanExporter(
        endpoint=f"{endpoint.rstrip('/')}/v1/traces", headers=dict(headers), timeout=PATIENCE
    )
    return BatchSpanProcessor(exporter)


def _context(event: Event, facts: Mapping[str, Any]) -> trace.Context:
    given = trace.read(event.traceparent)
    if given is not None:
        return given
    key = str(facts.get("idempotency_key") or "")
    turn = key.removeprefix(_REPLY).partition(":")[0] if key.startswith(_REPLY) else ""
    subject = f"turns/{facts['turn_id']}" if "turn_id" in facts else event.subject
    return trace.Context(
        trace.trace_id(facts.get("correlation_id"), subject),
        trace.turn_span(int(turn)) if turn.isdecimal() else None,
        sampled=None,
    )


class _Maker:
    """Makes the spans of one event."""

    def __init__(
        self, event: Event, facts: Mapping[str, Any], context: trace.Context, resource: Resource
    ) -> None:
        self.event = event
        self.facts = facts
        self.context = context
        self._resource = resource

    def span(
        self,
        name: str,
        begun: Any,
        ended: Any,
        *,
        span_id: int,
        parent: int | None,
        kind: SpanKind,
        failed: bool = False,
        facts: Mapping[str, Any] | None = None,
    ) -> ReadableSpan:
        """`facts`: what its attributes are of, instead of the event's."""
        return ReadableSpan(
            name=f"waemitter.{name}",
            context=self._of(span_id, remote=False),
            parent=None if parent is None else self._of(parent, remote=True),
            resource=self._resource,
            attributes=dict(self._attributes(self.facts if facts is None else facts)),
            kind=kind,
            status=Status(StatusCode.ERROR if failed else StatusCode.UNSET),
            start_time=_nanoseconds(begun),
            end_time=max(_nanoseconds(ended), _nanoseconds(begun)),
        )

    def _of(self, span_id: int, *, remote: bool) -> SpanContext:
        return SpanContext(self.context.trace_id, span_id, remote, _SAMPLED)

    def _attributes(self, facts: Mapping[str, Any]) -> Iterator[tuple[str, str | int | bool]]:
        """Of a closed choice: no phone number, no text."""
        yield "messaging.system", "whatsapp"
        if self.event.channel is not None:
            yield "messaging.destination.name", self.event.channel
        for key, name in _ATTRIBUTES.items():
            value = facts.get(key)
            if value is not None:
                yield name, value


_ATTRIBUTES: Final[Mapping[str, str]] = {
    "whatsapp_message_id": "messaging.message.id",
    "id": "waemitter.message_id",
    "status": "waemitter.status",
    "message_type": "waemitter.message_type",
    "attempts": "waemitter.attempts",
    "campaign_id": "waemitter.campaign_id",
    "error_code": "waemitter.error_code",
    "turn_id": "waemitter.turn_id",
    "route": "waemitter.route",
    "outcome": "waemitter.outcome",
    "correlation_id": "waemitter.correlation_id",
}


_UNKNOWN: Final[Mapping[str, None]] = dict.fromkeys(("status", "attempts", "whatsapp_message_id"))
"""Of an earlier attempt: the message's own are of the latest."""


def _message_spans(make: _Maker) -> Iterator[ReadableSpan]:
    facts, subject = make.facts, make.event.subject
    word = make.event.type.partition(".")[2]
    first = trace.span_id(f"{subject} enqueue")

    def step(
        name: str, begun: Any, ended: Any, kind: SpanKind, *, failed: bool = False, **more: Any
    ) -> Any:
        # An attempt is called by its claim: it may be told of as the latest one, and then as an earlier one.
        which = f" {_nanoseconds(begun)}" if kind is SpanKind.CLIENT else ""
        own = trace.span_id(f"{subject} {name}{which}")
        return make.span(
            name, begun, ended, span_id=own, parent=first, kind=kind, failed=failed, **more
        )

    created, claimed, sent = facts["created_at"], facts["claimed_at"], facts["sent_at"]
    over = facts["failed_at"] or make.event.at.isoformat()
    if word == "sent" or sent is None:
        yield make.span(
            "enqueue",
            created,
            created,
            span_id=first,
            parent=make.context.parent,
            kind=SpanKind.PRODUCER,
        )
        earlier = facts.get("earlier_attempts", [])
        if claimed is not None or earlier:
            begun = earlier[0]["claimed_at"] if earlier else claimed
            yield step("claim", created, begun, SpanKind.INTERNAL)
        for each in earlier:
            theirs = {**facts, **_UNKNOWN, "error_code": each["error_code"]}
            times = (each["claimed_at"], each["ended_at"])
            yield step("send", *times, SpanKind.CLIENT, failed=True, facts=theirs)
    if word == "sent":
        yield step("send", claimed or created, sent, SpanKind.CLIENT)
    elif word in {"delivered", "read"}:
        before = facts["delivered_at"] if word == "read" else sent
        yield step(word, before or facts[f"{word}_at"], facts[f"{word}_at"], SpanKind.CONSUMER)
    elif word == "failed" and sent is None and claimed is not None:
        yield step("send", claimed, over, SpanKind.CLIENT, failed=True)
    else:
        yield step(word, sent or created, over, SpanKind.INTERNAL, failed=word == "failed")


def _turn_spans(make: _Maker) -> Iterator[ReadableSpan]:
    facts = make.facts
    yield make.span(
        "turn",
        facts["created_at"],
        facts["processed_at"] or make.event.at.isoformat(),
        span_id=trace.turn_span(facts["turn_id"]),
        parent=make.context.parent,
        kind=SpanKind.SERVER,
        failed=make.event.type == "turn.failed",
    )


def _nanoseconds(text: str) -> int:
    """A time as Postgres writes it into JSON, as OpenTelemetry counts it: since 1970, exactly."""
    since = datetime.datetime.fromisoformat(text) - datetime.datetime(
        1970, 1, 1, tzinfo=datetime.UTC
    )
    return (since.days * 86_400 + since.seconds) * 10**9 + since.microseconds * 1000
