"""Figures of service_metrics, added up for a table: by the hour, by the route, by the agent. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

TURNS: Final = {"turn": "turns", "agent": "agent_turns"}
SENT: Final = {
    "hour": ("messages_sent", "messages_arrived"),
    "route": ("turn_replies_sent", "turn_replies_arrived"),
    "agent": ("agent_replies_sent", "agent_replies_arrived"),
}
"""Of an hour all messages, of a route or an agent their replies."""


class Times(NamedTuple):
    """Response times in seconds; None where there was none. `beyond`: longer than the longest bucket."""

    p50: float | None
    p95: float | None


class Line(NamedTuple):
    """One row of a table. `human`: turns that a person answers; `handed`: conversations taken over, or an agent's hand-overs."""

    key: Any
    conversations: float
    turns: float
    answered: float
    failed: float
    human: float
    handed: float
    times: Times
    sent: float
    delivered: float


def percentile(buckets: Mapping[float | None, float], share: float) -> float | None:
    """Read a percentile off counts by upper bound (None: no bound), evenly spread within a bucket; None of nothing."""
    whole = sum(buckets.values())
    if not whole:
        return None
    left, lower = whole * share, 0.0
    for bound in sorted(bound for bound in buckets if bound is not None):
        count = buckets[bound]
        if count >= left:
            return lower + (bound - lower) * left / count
        left, lower = left - count, bound
    return lower


def lines(rows: Iterable[Mapping[str, Any]], by: str) -> Sequence[Line]:
    """Add up the figures by `hour` (the latest first), `route` or `agent` (the busiest first)."""
    prefix = "agent" if by == "agent" else "turn"
    sums: defaultdict[Any, defaultdict[str, float]] = defaultdict(lambda: defaultdict(float))
    buckets: defaultdict[Any, defaultdict[float | None, float]] = defaultdict(
        lambda: defaultdict(float)
    )
    for row in rows:
        key, name, value = row[by], row["name"], row["value"]
        if key is None:
            continue
        if name == f"{prefix}_seconds":
            buckets[key][None if row["le"] is None else float(row["le"])] += value
            continue
        sums[key][name] += value
        if name == TURNS[prefix]:
            sums[key][row["outcome"]] += value
    made = [_line(key, by, sums[key], buckets[key]) for key in {*sums, *buckets}]
    if by == "hour":
        return sorted(made, key=lambda line: line.key, reverse=True)
    return sorted(made, key=lambda line: (-line.turns, line.key))


def _line(
    key: Any, by: str, found: Mapping[str, float], buckets: Mapping[float | None, float]
) -> Line:
    agents = by == "agent"
    sent, arrived = SENT[by]
    return Line(
        key=key,
        conversations=found["turn_conversations"],
        turns=found[TURNS["agent" if agents else "turn"]],
        answered=found["answered"],
        failed=found["failed"],
        human=found["human"],
        handed=found["agent_handovers"] if agents else found["turn_takeovers"],
        times=Times(percentile(buckets, 0.5), percentile(buckets, 0.95)),
        sent=found[sent],
        delivered=found[arrived],
    )
