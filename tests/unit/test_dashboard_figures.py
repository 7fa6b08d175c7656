from __future__ import annotations

from typing import Any

import pytest

from waemitter.web.dashboard.figures import lines, percentile
from waemitter.web.dashboard.jobs import told


@pytest.mark.parametrize(
    ("buckets", "share", "seconds"),
    [
        ({}, 0.5, None),
        ({1.0: 10}, 0.5, 0.5),
        ({1.0: 10, 2.0: 10}, 0.5, 1.0),
        ({1.0: 10, 2.0: 10}, 0.75, 1.5),
        ({1.0: 50, 10.0: 50}, 0.95, 9.1),
        ({1.0: 1, None: 9}, 0.95, 1.0),
        ({None: 4}, 0.5, 0.0),
    ],
)
def test_a_percentile_is_read_off_buckets(
    buckets: dict[float | None, float], share: float, seconds: float | None
) -> None:
    assert percentile(buckets, share) == pytest.approx(seconds)


def row(name: str, value: float, **labels: Any) -> dict[str, Any]:
    blank = dict.fromkeys(("hour", "route", "agent", "le", "outcome"))
    return blank | {"name": name, "value": value} | labels


ROWS = [
    row("turns", 6, hour=1, route="menu", outcome="answered"),
    row("turns", 2, hour=1, route="menu", outcome="human"),
    row("turns", 9, hour=2, route="rides", outcome="answered"),
    row("turn_conversations", 5, hour=1, route="menu"),
    row("turn_seconds", 6, hour=1, route="menu", le="1"),
    row("turn_takeovers", 1, hour=1),
    row("agent_turns", 4, hour=2, agent="assistant", outcome="answered"),
    row("agent_seconds", 4, hour=2, agent="assistant", le="2"),
    row("agent_handovers", 1, hour=2, agent="assistant"),
    row("messages_sent", 10, hour=2),
    row("messages_arrived", 9, hour=2),
    row("turn_replies_sent", 8, hour=2, route="rides"),
    row("turn_replies_arrived", 7, hour=2, route="rides"),
    row("agent_replies_sent", 4, hour=2, agent="assistant"),
    row("agent_replies_arrived", 3, hour=2, agent="assistant"),
]


def test_figures_by_the_hour_begin_with_the_latest() -> None:
    latest, first = lines(ROWS, "hour")
    assert (latest.key, latest.turns, latest.sent, latest.delivered) == (2, 9, 10, 9)
    assert (first.key, first.turns, first.answered, first.human, first.handed) == (1, 8, 6, 2, 1)
    assert first.times.p50 == 0.5


def test_figures_by_the_route_begin_with_the_busiest() -> None:
    assert [(line.key, line.turns, line.conversations) for line in lines(ROWS, "route")] == [
        ("rides", 9, 0),
        ("menu", 8, 5),
    ]


def test_of_a_route_the_replies_are_told() -> None:
    rides, menu = lines(ROWS, "route")
    assert (rides.sent, rides.delivered, menu.sent, menu.delivered) == (8, 7, 0, 0)


def test_figures_of_an_agent_are_its_own() -> None:
    (line,) = lines(ROWS, "agent")
    assert (line.sent, line.delivered) == (4, 3)
    assert (line.key, line.turns, line.answered, line.handed) == ("assistant", 4, 4, 1)
    assert line.times.p50 == 1.0


@pytest.mark.parametrize(
    ("summary", "words"),
    [
        (None, ""),
        ("[]", ""),
        ('{"success": true, "processed": 3, "durationMs": 9}', "processed 3"),
        ('{"sessions": {"deleted": 4, "cutoffTime": "x"}}', "sessions deleted 4"),
    ],
)
def test_what_a_run_did_is_told_in_a_line(summary: str | None, words: str) -> None:
    assert told(summary) == words
