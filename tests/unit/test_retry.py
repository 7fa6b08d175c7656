"""What becomes of an attempt: the decision as a table, and as properties."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waemitter.outbox.retry import Decision, Outcome, Patience, decide
from waemitter.whatsapp.errors import Accepted, ErrorClass, Refused, classify
from waemitter.whatsapp.replies import Answered, NoAnswer, NotSent

PATIENCE = Patience(max_attempts=5, delays=(60, 120, 240, 480, 960), grace=60)


def refused(error_class: ErrorClass, **more: object) -> Refused:
    return Refused(error_class, 131000, "words", **more)  # type: ignore[arg-type] # a table's row


def decided(answer: Accepted | Refused, *, attempt: int = 1, **more: object) -> Decision:
    options = {"max_attempts": None, "patience": PATIENCE, "jitter": 1.0} | more
    return decide(answer, attempt=attempt, **options)  # type: ignore[arg-type] # a table's row


def test_an_accepted_message_is_sent_under_its_wamid() -> None:
    assert decided(Accepted("wamid.x", None, None)) == Decision(Outcome.SENT, wamid="wamid.x")


@pytest.mark.parametrize(("attempt", "delay"), [(1, 60), (2, 120), (3, 240), (4, 480), (5, 960)])
def test_retries_wait_as_long_as_the_list_says(attempt: int, delay: float) -> None:
    decision = decided(refused(ErrorClass.RETRY), attempt=attempt)
    assert (decision.outcome, decision.delay) == (Outcome.RETRY, delay)


def test_the_sixth_try_is_the_last_with_five_retries() -> None:
    assert decided(refused(ErrorClass.RETRY), attempt=6).outcome is Outcome.FAILED


def test_the_last_delay_repeats_when_a_message_has_more_retries_than_delays() -> None:
    assert decided(refused(ErrorClass.RETRY), attempt=9, max_attempts=20).delay == 960


def test_a_message_may_have_no_retries_at_all() -> None:
    assert decided(refused(ErrorClass.RETRY), max_attempts=0).outcome is Outcome.FAILED


def test_an_error_with_few_tries_is_not_retried_as_often_as_the_message_allows() -> None:
    answer = refused(ErrorClass.RETRY, max_tries=3)
    assert decided(answer, attempt=2).outcome is Outcome.RETRY
    assert decided(answer, attempt=3).outcome is Outcome.FAILED


def test_meta_may_ask_for_a_longer_wait_than_ours_but_not_for_a_shorter_one() -> None:
    assert decided(refused(ErrorClass.RETRY, hold=600.0)).delay == 600
    assert decided(refused(ErrorClass.RETRY, hold=1.0)).delay == 60


def test_an_unknown_code_is_tried_once_more_to_be_sure() -> None:
    answer = classify(Answered(400, b'{"error": {"code": 987654, "message": "new"}}'))
    assert decided(answer, attempt=1).outcome is Outcome.RETRY
    assert decided(answer, attempt=2).outcome is Outcome.FAILED


@pytest.mark.parametrize(
    ("error_class", "pause"),
    [
        (ErrorClass.THROTTLE_NUMBER, 2.0),
        (ErrorClass.THROTTLE_APP, 60.0),
        (ErrorClass.PAUSE_NUMBER, 60.0),
        (ErrorClass.PAUSE_ACCOUNT, 60.0),
    ],
)
def test_what_concerns_the_number_pauses_it_and_costs_the_message_nothing(
    error_class: ErrorClass, pause: float
) -> None:
    decision = decided(refused(error_class), attempt=50)
    assert (decision.outcome, decision.pause) == (Outcome.DEFER, pause)
    assert decided(refused(error_class, hold=7.0)).pause == 7.0


def test_what_concerns_one_recipient_holds_that_message_alone() -> None:
    decision = decided(refused(ErrorClass.THROTTLE_PAIR), attempt=50)
    assert (decision.outcome, decision.pause, decision.delay) == (Outcome.PAIR, None, 1.0)
    assert decided(refused(ErrorClass.THROTTLE_PAIR, hold=9.0)).delay == 9.0


def test_what_meta_chose_not_to_deliver_waits_a_day() -> None:
    assert decided(refused(ErrorClass.DEFER)).delay == 86_400


@pytest.mark.parametrize(
    "error_class",
    [ErrorClass.FAIL, ErrorClass.FAIL_TEMPLATE, ErrorClass.INBOUND, ErrorClass.MGMT],
)
def test_what_is_final_fails_at_once(error_class: ErrorClass) -> None:
    decision = decided(refused(error_class))
    assert (decision.outcome, decision.code, decision.reason) == (Outcome.FAILED, 131000, "words")


def test_no_answer_is_never_a_retry() -> None:
    decision = decided(classify(NoAnswer("TimeoutError")))
    assert (decision.outcome, decision.delay) == (Outcome.UNCONFIRMED, 60)


def test_what_never_left_is_a_retry() -> None:
    assert decided(classify(NotSent("ClientConnectorError"))).outcome is Outcome.RETRY


@given(
    error_class=st.sampled_from(ErrorClass),
    attempt=st.integers(1, 1000),
    max_attempts=st.none() | st.integers(0, 100),
    max_tries=st.none() | st.integers(1, 5),
    hold=st.none() | st.floats(0, 1e6),
    jitter=st.floats(0.9, 1.1),
)
def test_every_refusal_has_an_end_or_a_wait(
    error_class: ErrorClass,
    attempt: int,
    max_attempts: int | None,
    max_tries: int | None,
    hold: float | None,
    jitter: float,
) -> None:
    answer = refused(error_class, max_tries=max_tries, hold=hold)
    decision = decided(answer, attempt=attempt, max_attempts=max_attempts, jitter=jitter)
    assert decision.outcome is not Outcome.SENT
    if decision.outcome is Outcome.RETRY:
        assert attempt < min(1 + (5 if max_attempts is None else max_attempts), max_tries or 9999)
    if decision.outcome is not Outcome.FAILED:
        assert decision.delay is not None
        assert decision.delay > 0 or decision.pause is not None
