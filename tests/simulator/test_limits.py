import pytest

from waemitter.simulator.limits import Gcra, Limit, SlidingWindow


def admitted(limit: Limit, moments: list[float]) -> list[bool]:
    return [limit.admit("key", now) for now in moments]


@pytest.mark.parametrize(
    ("moments", "verdicts"),
    [
        ([0, 0, 0], [True, True, False]),
        ([0, 0.5, 0.999], [True, True, False]),
        ([0, 0.5, 1.0], [True, True, True]),
        ([0.6, 0.9, 1.1, 1.6], [True, True, False, True]),
        # Two of the old second and two of the new: a bucket would let them pass, this must not.
        ([0.9, 0.95, 1.0, 1.05], [True, True, False, False]),
    ],
)
def test_sliding_window_of_two_a_second(moments, verdicts):
    assert admitted(SlidingWindow(limit=2), moments) == verdicts


def test_refused_arrivals_do_not_keep_the_window_full():
    limit = SlidingWindow(limit=1)
    assert admitted(limit, [0, 0.3, 0.6, 0.9, 1.0]) == [True, False, False, False, True]


@pytest.mark.parametrize(
    ("moments", "verdicts"),
    [
        ([0, 0, 0, 0], [True, True, True, False]),
        ([0, 0, 0, 6], [True, True, True, True]),
        ([0, 0, 0, 5.9], [True, True, True, False]),
        ([0, 6, 12, 18], [True, True, True, True]),
        ([0, 0, 0, 18, 18, 18], [True] * 6),
    ],
)
def test_gcra_of_one_in_six_seconds_with_a_burst_of_three(moments, verdicts):
    assert admitted(Gcra(interval=6, burst=3), moments) == verdicts


@pytest.mark.parametrize("limit", [SlidingWindow(limit=1), Gcra(interval=1, burst=1)])
def test_keys_are_independent_and_spending_counts(limit):
    assert limit.admit("one", 0)
    assert limit.admit("two", 0)
    limit.spend("three", 0)
    assert not limit.admit("three", 0.5)


def test_gcra_forgets_those_who_owe_nothing_and_no_one_else():
    limit = Gcra(interval=10, burst=1)
    limit.admit("debtor", 1000)
    for user in range(5000):
        limit.admit(user, user / 10)
    assert len(limit._paid_at) < 2500
    assert not limit.admit("debtor", 1005)
