from hypothesis import given
from hypothesis import strategies as st

from waemitter.web.limits import Buckets


def test_a_burst_then_the_rate():
    buckets = Buckets(rate=8, burst=3)
    assert [buckets.take("ada", 0) == 0 for _ in range(4)] == [True, True, True, False]
    assert buckets.take("ada", 0.0625) > 0
    assert buckets.take("ada", 0.125) == 0
    assert buckets.take("ada", 0.125) > 0


def test_callers_do_not_share():
    buckets = Buckets(rate=1, burst=1)
    assert buckets.take("ada", 0) == 0
    assert buckets.take("grace", 0) == 0
    assert buckets.take("ada", 0) == 1


def test_waiting_takes_nothing():
    buckets = Buckets(rate=1, burst=1)
    assert [buckets.wait("ada", 0) for _ in range(3)] == [0, 0, 0]
    assert buckets.take("ada", 0) == 0
    assert buckets.wait("ada", 0.25) == 0.75


def test_a_rate_of_nothing_is_no_limit():
    buckets = Buckets(rate=0, burst=0)
    assert {buckets.take("ada", 0) for _ in range(1000)} == {0}


def test_who_was_not_heard_for_longest_is_forgotten():
    buckets = Buckets(rate=1, burst=1, most=2)
    for name in ("ada", "grace", "ada", "edsger"):
        buckets.take(name, 0)
    assert buckets.wait("edsger", 0) == 1
    assert [buckets.wait(name, 0) for name in ("ada", "grace")].count(0) == 1


@given(
    st.lists(st.floats(0, 5), min_size=1, max_size=80),
    st.integers(1, 20),
    st.integers(1, 10),
)
def test_no_interval_ever_has_more_than_the_burst_and_the_rate(waits, rate, burst):
    buckets, now, taken = Buckets(rate=rate, burst=burst), 0.0, list[float]()
    for wait in waits:
        now += wait / 10
        if buckets.take("ada", now) == 0:
            taken.append(now)
    for first, since in enumerate(taken):
        for last, until in enumerate(taken[first:], start=first):
            assert last - first + 1 <= burst + rate * (until - since) + 1e-6
