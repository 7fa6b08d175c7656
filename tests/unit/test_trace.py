"""W3C Trace Context, and the ids of what came without one."""

from __future__ import annotations

import uuid

import pytest

from waemitter.observe import trace

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"


@pytest.mark.parametrize(
    ("text", "sampled"),
    [
        (f"00-{TRACE}-{PARENT}-01", True),
        (f"00-{TRACE}-{PARENT}-00", False),
        (f"00-{TRACE}-{PARENT}-03", True),
        (f"cc-{TRACE}-{PARENT}-01-what-comes", True),
    ],
)
def test_a_traceparent_is_read(text: str, sampled: bool) -> None:  # noqa: FBT001
    assert trace.read(text) == (int(TRACE, 16), int(PARENT, 16), sampled)


@pytest.mark.parametrize(
    "text",
    [
        None, "", "nonsense", f"ff-{TRACE}-{PARENT}-01", f"00-{TRACE}-{PARENT}-01-more", f"00-{'0' * 32}-{PARENT}-01",
        f"00-{TRACE}-{'0' * 16}-01", f"00-{TRACE.upper()}-{PARENT}-01", f"00-{TRACE}-{PARENT}-1",
        f"cc-{TRACE}-{PARENT}-01-a\r\nb", f"0\N{ARABIC-INDIC DIGIT ZERO}-{TRACE}-{PARENT}-01",
    ],
)  # fmt: skip
def test_what_is_none_is_passed_over(text: str | None) -> None:
    assert trace.read(text) is None


def test_a_correlation_id_that_is_a_uuid_is_the_trace() -> None:
    known = uuid.uuid4()
    assert trace.trace_id(str(known), "messages/1") == known.int
    assert trace.trace_id("order-17", "messages/1") == trace.trace_id("order-17", "messages/2")
    assert trace.trace_id(None, "messages/1") != trace.trace_id(None, "messages/2")
    assert trace.trace_id(str(uuid.UUID(int=0)), "messages/1") == 1  # zero is no id


def test_a_share_of_the_traces_is_always_the_same_one() -> None:
    traces = [trace.trace_id(None, f"messages/{n}") for n in range(2000)]
    tenth = [each for each in traces if trace.sampled(each, 0.1)]

    assert 120 < len(tenth) < 280
    assert all(trace.sampled(each, 0.5) for each in tenth)
    assert all(trace.sampled(each, 1.0) for each in traces)
    assert not any(trace.sampled(each, 0.0) for each in traces)


def test_a_handler_gets_the_turn_s_trace_and_whether_it_is_exported() -> None:
    known = uuid.uuid4()
    header = trace.of_turn(7, str(known), ratio=1.0)

    assert trace.read(header) == (known.int, trace.turn_span(7), True)
    assert trace.of_turn(7, str(known), ratio=0.0).endswith("-00")
