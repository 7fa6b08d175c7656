"""An event's form, what an answer means, and when the next attempt is due."""

from __future__ import annotations

import datetime
import json

import pytest

from waemitter.errors import UsageError
from waemitter.jobs.event_stream.delivery import delay, judged
from waemitter.jobs.event_stream.event import TYPES, Event, cloud_event, expand

EVENT = Event(
    id=17,
    event_id="8f14e45f-ceea-467f-a0e6-b5c1d2a3f4e5",
    type="message.delivered",
    subject="messages/5",
    channel="default",
    at=datetime.datetime(2026, 11, 22, 11, 0, 0, 1, datetime.timezone(datetime.timedelta(hours=1))),
    data='{"id": 5, "status": "delivered"}',
    traceparent=None,
    attempt=1,
)


def test_an_event_is_a_cloud_event_in_structured_json() -> None:
    assert json.loads(cloud_event(EVENT)) == {
        "specversion": "1.0",
        "id": "8f14e45f-ceea-467f-a0e6-b5c1d2a3f4e5",
        "source": "/waemitter/channels/default",
        "type": "message.delivered",
        "subject": "messages/5",
        "time": "2026-11-22T10:00:00.000001Z",
        "sequence": "00000000000000000017",
        "datacontenttype": "application/json",
        "data": {"id": 5, "status": "delivered"},
    }


def test_a_trace_goes_along_and_what_has_no_channel_has_a_source_all_the_same() -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    document = json.loads(cloud_event(EVENT._replace(channel=None, traceparent=trace)))

    assert document["traceparent"] == trace
    assert document["source"] == "/waemitter"


def test_sequences_are_in_the_order_of_their_text() -> None:
    sequences = [
        json.loads(cloud_event(EVENT._replace(id=number)))["sequence"] for number in (9, 10, 2**62)
    ]
    assert sequences == sorted(sequences)


@pytest.mark.parametrize(
    ("patterns", "types"),
    [
        (("message.sent",), ("message.sent",)),
        (("message.read", "message.sent", "message.read"), ("message.sent", "message.read")),
        (("turn.*",), ("turn.completed", "turn.failed")),
        (("*",), TYPES),
    ],
)
def test_patterns_mean_types(patterns: tuple[str, ...], types: tuple[str, ...]) -> None:
    assert expand(patterns) == types


@pytest.mark.parametrize("pattern", ["message", "mess*", "message.*.x", "message.queued", "", ".*"])
def test_a_word_that_means_no_type_is_refused_with_those_that_there_are(pattern: str) -> None:
    with pytest.raises(UsageError, match=r"is no type of event; there are message\.received"):
        expand((pattern,))


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (200, "delivered"), (204, "delivered"), (202, "delivered"),
        (301, "refused"), (307, "refused"), (400, "refused"), (401, "refused"), (404, "refused"), (422, "refused"),
        (408, "failed"), (425, "failed"), (429, "failed"), (500, "failed"), (503, "failed"), (599, "failed"),
        (410, "gone"),
    ],
)  # fmt: skip
def test_what_a_receiver_s_answer_means(status: int, outcome: str) -> None:
    assert judged(status).outcome == outcome


@pytest.mark.parametrize(
    ("header", "wait"),
    [("7", 7.0), ("999999", 3600.0), ("-1", 0.0), ("soon", 0.0), ("²", 0.0), (None, 0.0)],
)
def test_a_receiver_may_ask_for_time(header: str | None, wait: float) -> None:
    assert judged(503, header).wait == wait


@pytest.mark.parametrize(
    ("attempt", "seconds"),
    [(1, 1.0), (2, 2.0), (3, 4.0), (12, 2048.0), (13, 3600.0), (10_000, 3600.0)],
)
def test_delays_double_up_to_an_hour(attempt: int, seconds: float) -> None:
    assert delay(attempt, wait=0, jitter=1.0) == seconds
    assert delay(attempt, wait=0, jitter=0.9) == pytest.approx(seconds * 0.9)


def test_what_the_receiver_asks_for_is_the_least() -> None:
    assert delay(1, wait=60, jitter=1.1) == 60
