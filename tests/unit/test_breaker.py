from hypothesis import given
from hypothesis import strategies as st

from waemitter.runtime.breaker import Breaker


def opened(*, at: float = 0.0) -> Breaker:
    breaker = Breaker(threshold=3, rest=30)
    for _ in range(3):
        assert breaker.admits(at)
        breaker.failed(at)
    return breaker


def test_failures_in_a_row_open_it():
    breaker = Breaker(threshold=3, rest=30)

    for state in ("closed", "closed", "open"):
        assert breaker.admits(0)
        breaker.failed(0)
        assert breaker.state == state
    assert not breaker.admits(29.9)


def test_a_success_between_them_starts_the_count_anew():
    breaker = Breaker(threshold=2, rest=30)

    breaker.failed(0)
    breaker.succeeded()
    breaker.failed(0)

    assert breaker.state == "closed"


def test_after_its_rest_one_call_is_let_through():
    breaker = opened()

    assert breaker.admits(30)
    assert breaker.state == "half_open"
    assert not breaker.admits(30)


def test_a_good_answer_closes_it():
    breaker = opened()
    breaker.admits(30)

    breaker.succeeded()

    assert breaker.state == "closed"
    assert breaker.admits(30)
    assert breaker.admits(30)


def test_a_bad_one_opens_it_for_another_rest():
    breaker = opened()
    breaker.admits(30)

    breaker.failed(31)

    assert breaker.state == "open"
    assert not breaker.admits(60.9)
    assert breaker.admits(61)


def test_a_failure_of_a_call_that_began_before_does_not_prolong_the_rest():
    breaker = opened()

    breaker.failed(20)

    assert breaker.admits(30)


def test_a_cancelled_call_lets_the_next_one_try():
    breaker = opened()
    breaker.admits(30)

    breaker.abandoned()

    assert breaker.state == "open"
    assert breaker.admits(30)


@given(
    st.lists(st.tuples(st.sampled_from(["ask", "succeed", "fail", "abandon"]), st.integers(0, 50)))
)
def test_whatever_happens_it_admits_again_after_a_rest(steps):
    breaker, now = Breaker(threshold=2, rest=30), 0
    for what, passed in steps:
        now += passed
        if what == "ask":
            breaker.admits(now)
        elif what == "succeed":
            breaker.succeeded()
        elif what == "fail":
            breaker.failed(now)
        else:
            breaker.abandoned()
    breaker.abandoned()

    assert breaker.admits(now + 30)
