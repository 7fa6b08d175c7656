"""The server's slots on our clock, and how many requests may be in flight."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waemitter.outbox.bucket import (
    IDLE_ROOM,
    LATE,
    FlightWindow,
    InboundMeter,
    ServerClock,
    missed,
)


def test_the_server_s_clock_is_known_as_well_as_the_quickest_answer_showed_it() -> None:
    clock = ServerClock()
    clock.observe(1000.0, now=5.030)  # took 30 ms
    clock.observe(1001.0, now=6.002)  # took 2 ms
    clock.observe(1002.0, now=7.050)  # took 50 ms: tells nothing new
    assert clock.ours(1003.0) == pytest.approx(8.002, abs=0.001)


def test_an_old_observation_is_forgotten_as_fast_as_clocks_may_drift() -> None:
    clock = ServerClock()
    clock.observe(1000.0, now=5.0)
    clock.observe(1999.5, now=1005.0)  # half a second slower than ours after a thousand
    assert clock.ours(2000.0) == pytest.approx(1005.5, abs=0.001)


@given(
    offset=st.floats(-1e6, 1e6),
    delays=st.lists(st.floats(0.0002, 0.2), min_size=1, max_size=50),
)
def test_a_slot_is_never_taken_for_earlier_than_it_is(offset: float, delays: list[float]) -> None:
    clock, server = ServerClock(), 1e9
    for delay in delays:
        server += 0.1
        clock.observe(server, now=server + offset + delay)
    assert clock.ours(server) >= server + offset - 1e-6
    assert clock.ours(server) <= server + offset + delays[-1] + 1e-6


def test_a_slot_is_missed_only_when_it_has_passed_by_too_far() -> None:
    assert not missed(10.0, now=9.0)
    assert not missed(10.0, now=10.0 + LATE * 0.9)
    assert missed(10.0, now=10.0 + LATE * 1.1)


@given(
    limit=st.sampled_from([1, 5, 20, 80, 250, 1000]),
    lateness=st.lists(st.floats(0, LATE), min_size=50, max_size=400),
)
def test_slots_kept_within_their_lateness_never_fill_a_second_too_far(
    limit: int, lateness: list[float]
) -> None:
    rate = 0.97 * limit
    leaves = sorted(n / rate + late for n, late in enumerate(lateness))
    fullest = max(sum(1 for other in leaves if start <= other < start + 1.0) for start in leaves)
    assert fullest <= math.floor((1 + LATE) * rate) + 1
    assert fullest <= max(limit, 1)


def answers(window: FlightWindow, *, rate: float, latency: float, seconds: float) -> None:
    now = 100.0
    for n in range(int(rate * seconds)):
        window.answered(latency, now=now + n / rate)


def test_a_quick_peer_needs_few_requests_in_flight() -> None:
    window = FlightWindow(most=1000)
    answers(window, rate=8000, latency=0.0005, seconds=2)
    assert IDLE_ROOM <= window.size <= 64


def test_a_slow_peer_needs_as_many_as_rate_and_latency_ask_for() -> None:
    window = FlightWindow(most=1000)
    answers(window, rate=2000, latency=0.1, seconds=2)
    assert 300 <= window.size <= 500


def test_the_window_grows_to_its_limit_and_no_further() -> None:
    window = FlightWindow(most=100)
    answers(window, rate=2000, latency=0.5, seconds=2)
    assert window.size == 100


@given(st.lists(st.tuples(st.floats(1e-5, 10), st.floats(1e-6, 5)), max_size=200))
def test_the_window_is_never_shut_nor_wider_than_allowed(steps: list[tuple[float, float]]) -> None:
    window, now = FlightWindow(most=500), 0.0
    for latency, gap in steps:
        now += gap
        window.answered(latency, now=now)
        assert IDLE_ROOM <= window.size <= 500


def test_inbound_peaks_are_told_when_they_grow_and_once_in_a_while() -> None:
    meter = InboundMeter()
    told = [
        meter.received({"default": count}, now=now)
        for now, count in [
            (100.0, 2),  # too few to matter
            (100.5, 8),
            (100.6, 1),
            (100.7, 4),
            (101.0, 10),  # another second, no higher
            (110.0, 16),
            (125.0, 5),
            (130.1, 12),
        ]
    ]

    assert told == [
        [],
        [("default", 10)],
        [],
        [("default", 15)],
        [],
        [],
        [("default", 5)],
        [("default", 12)],
    ]


def test_inbound_peaks_are_each_channels_own() -> None:
    meter = InboundMeter()

    news = meter.received({"shop": 5, "desk": 3}, now=1.0)

    assert sorted(news) == [("desk", 3), ("shop", 5)]
    assert meter.received({"desk": 1}, now=1.1) == [("desk", 4)]
