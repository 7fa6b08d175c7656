"""Which trace something belongs to: W3C Trace Context, https://www.w3.org/TR/trace-context/.

Ids are derived from what everybody knows, so that several daemons, and a daemon after its death, tell of one span by one id.
"""

from __future__ import annotations

import hashlib
import re
import uuid
from typing import Final, NamedTuple

_TRACEPARENT: Final = re.compile(
    r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-[!-~]*)?", re.ASCII
)
_LARGEST: Final = float(2**64)


class Context(NamedTuple):
    """`parent` None: the span is the trace's first. `sampled` None: whoever enqueued did not decide."""

    trace_id: int
    parent: int | None
    sampled: bool | None


def read(traceparent: str | None) -> Context | None:
    """Read the header; None for what is no valid one, which the standard wants to be passed over."""
    found = _TRACEPARENT.fullmatch(traceparent or "")
    if found is None:
        return None
    version, trace_id, parent, flags, rest = found.groups()
    if (
        version == "ff"
        or (version == "00" and rest)
        or not int(trace_id, 16)
        or not int(parent, 16)
    ):
        return None
    return Context(int(trace_id, 16), int(parent, 16), sampled=bool(int(flags, 16) & 1))


def valid(traceparent: str | None) -> str | None:
    """Give back what may be forwarded: anybody can write anything into the column."""
    return None if read(traceparent) is None else traceparent


def span_id(name: str) -> int:
    """The id of a span that everybody calls by this name; never zero."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8]) or 1


def trace_id(correlation_id: str | None, subject: str) -> int:
    """The trace of what came without one: its correlation id, when that is a UUID, else derived."""
    try:
        return uuid.UUID(correlation_id or "").int or 1
    except ValueError:
        named = correlation_id or subject
        return int.from_bytes(hashlib.sha256(named.encode()).digest()[:16]) or 1


def sampled(trace: int, ratio: float) -> bool:
    """Whether a share of the traces includes this one; the same by whoever asks."""
    return (trace & (2**64 - 1)) < ratio * _LARGEST


def turn_span(turn_id: int) -> int:
    return span_id(f"turns/{turn_id}")


def of_turn(turn_id: int, correlation_id: str | None, *, ratio: float) -> str:
    """Write the header that a handler gets: what it does is part of the turn's trace."""
    trace = trace_id(correlation_id, f"turns/{turn_id}")
    return f"00-{trace:032x}-{turn_span(turn_id):016x}-{int(sampled(trace, ratio)):02d}"
