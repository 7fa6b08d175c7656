"""What becomes of an attempt: the decision as a table, and as properties."""

from __future__ import annotations

from dataclasses import replace
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waemitter.outbox.retry import (
    Again,
    Consequence,
    Decision,
    Outcome,
    Patience,
    Pause,
    Resend,
    after_failure,
    consequence,
    decide,
)
from waemitter.whatsapp.errors import (
    Accepted,
    ErrorClass,
    Refused,
    classify,
    classify_status_error,
)
from waemitter.whatsapp.replies import Answered, NoAnswer, NotSent

PATIENCE = Patience(max_attempts=5, delays=(60, 120, 240, 480, 960), grace=60)


def refused(error_class: ErrorClass, **more: object) -> Refused:
    return Refused(error_class, 131000, "words", **more)  # type: ignore[arg-type] # a table's row


def decided(answer: Accepted | Refused, *, attempt: int = 1, **more: object) -> Decision:
    options = {"max_attempts": None, "patience": PATIENCE, "jitter": 1.0} | more
    return decide(answer, attempt=attempt, **options)  # type: ignore[arg-type] # a table's row


def failed(failure: Refused) -> Resend:
    return after_failure(failure, patience=PATIENCE, jitter=1.0)


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
        (ErrorClass.THROTTLE_NUMBER, Pause(2.0, account=False)),
        (ErrorClass.THROTTLE_APP, Pause(60.0, account=True)),
        (ErrorClass.PAUSE_NUMBER, Pause(inf, account=False)),
        (ErrorClass.PAUSE_ACCOUNT, Pause(inf, account=True)),
    ],
)
def test_what_concerns_the_number_pauses_it_and_costs_the_message_nothing(
    error_class: ErrorClass, pause: Pause
) -> None:
    decision = decided(refused(error_class), attempt=50)
    assert (decision.outcome, decision.delay) == (Outcome.DEFER, 0.0)
    assert failed(refused(error_class)) == Resend(Again.UNSPENT)
    assert consequence(refused(error_class)) == Consequence(pause=pause)


@pytest.mark.parametrize(("code", "slower"), [(130429, True), (131057, False), (131048, False)])
def test_a_limit_that_was_met_lowers_the_rate_and_a_mere_pause_does_not(
    code: int, *, slower: bool
) -> None:
    assert consequence(classify_status_error([{"code": code}])).slower is slower


def test_meta_says_how_long_a_throttle_lasts_but_not_a_pause() -> None:
    throttled = consequence(refused(ErrorClass.THROTTLE_APP, hold=1140.0))
    paused = consequence(refused(ErrorClass.PAUSE_NUMBER, hold=7.0))
    assert throttled.pause == Pause(1140.0, account=True)
    assert paused.pause == Pause(inf, account=False)


def test_what_concerns_one_recipient_holds_that_message_alone() -> None:
    answer = refused(ErrorClass.THROTTLE_PAIR)
    decision = decided(answer, attempt=50)
    assert (decision.outcome, decision.delay) == (Outcome.PAIR, 1.0)
    assert decided(refused(ErrorClass.THROTTLE_PAIR, hold=9.0)).delay == 9.0
    assert failed(answer) == Resend(Again.PAIR, delay=1.0)
    assert consequence(answer) == Consequence()


@pytest.mark.parametrize("jitter", [0.9, 1.0, 1.1])
def test_what_meta_chose_not_to_deliver_is_tried_once_more_and_never_within_a_day(
    jitter: float,
) -> None:
    answer, patience = refused(ErrorClass.DEFER), replace(PATIENCE, postpone=True)
    first = decided(answer, patience=patience, jitter=jitter)
    assert first.outcome is Outcome.POSTPONE
    assert first.delay is not None
    assert first.delay >= 86_400
    assert decided(answer, attempt=2, patience=patience).outcome is Outcome.FAILED
    resend = after_failure(answer, patience=patience, jitter=jitter)
    assert (resend.again, resend.delay >= 86_400) == (Again.ONCE, True)


def test_what_meta_chose_not_to_deliver_fails_unless_the_setting_says_otherwise() -> None:
    answer = refused(ErrorClass.DEFER)
    assert decided(answer).outcome is Outcome.FAILED
    assert failed(answer) == Resend(Again.NEVER)


@pytest.mark.parametrize(
    ("code", "outcome", "hold"),
    [
        (132015, Outcome.DEFER, 3600),  # paused: Meta lets it go again in hours
        (132069, Outcome.DEFER, 3600),  # ten an hour
        (134102, Outcome.DEFER, 600),
        (132001, Outcome.FAILED, 600),  # not there: whoever asked shall know
        (131063, Outcome.FAILED, 3600),
        (132016, Outcome.FAILED, inf),  # disabled for good
        (132068, Outcome.FAILED, inf),
    ],
)
def test_a_refused_template_is_held_and_the_message_that_found_out_waits_or_fails(
    code: int, outcome: Outcome, hold: float
) -> None:
    answer = classify(Answered(400, b'{"error": {"code": %d}}' % code))
    assert isinstance(answer, Refused)
    assert decided(answer, attempt=50).outcome is outcome
    assert consequence(answer) == Consequence(hold=hold)
    again = Again.UNSPENT if outcome is Outcome.DEFER else Again.NEVER
    assert failed(answer).again is again


@pytest.mark.parametrize("error_class", [ErrorClass.FAIL, ErrorClass.INBOUND, ErrorClass.MGMT])
def test_what_is_final_fails_at_once(error_class: ErrorClass) -> None:
    decision = decided(refused(error_class))
    assert (decision.outcome, decision.code, decision.reason) == (Outcome.FAILED, 131000, "words")
    assert decision.error_class == error_class
    assert failed(refused(error_class)) == Resend(Again.NEVER)
    assert consequence(refused(error_class)) == Consequence()


def test_only_an_opt_out_of_marketing_suppresses() -> None:
    assert consequence(refused(ErrorClass.FAIL, suppress=True)) == Consequence(suppress=True)


@pytest.mark.parametrize(
    ("code", "resend"),
    [
        (131000, Resend(Again.SPENT, tries=3)),
        (131016, Resend(Again.SPENT)),
        (131053, Resend(Again.LINKED, tries=3)),
        (134101, Resend(Again.SPENT, delay=600)),
        (135000, Resend(Again.SPENT, tries=2)),
        (131047, Resend(Again.NEVER)),
        (987654, Resend(Again.NEVER)),
    ],
)
def test_what_meta_gave_up_for_a_passing_fault_is_sent_again(code: int, resend: Resend) -> None:
    assert failed(classify_status_error([{"code": code}])) == resend


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
    hold=st.none() | st.floats(1, 1e6),
    postpone=st.booleans(),
    jitter=st.floats(0.9, 1.1),
)
def test_every_refusal_has_an_end_or_a_wait(
    error_class: ErrorClass,
    attempt: int,
    max_attempts: int | None,
    max_tries: int | None,
    hold: float | None,
    postpone: bool,  # noqa: FBT001 hypothesis gives it by name
    jitter: float,
) -> None:
    answer = refused(error_class, max_tries=max_tries, hold=hold)
    patience = replace(PATIENCE, postpone=postpone)
    decision = decided(
        answer, attempt=attempt, max_attempts=max_attempts, patience=patience, jitter=jitter
    )
    assert decision.outcome is not Outcome.SENT
    if decision.outcome is Outcome.RETRY:
        assert attempt < min(1 + (5 if max_attempts is None else max_attempts), max_tries or 9999)
    if decision.outcome is not Outcome.FAILED:
        assert decision.delay is not None
        asked = consequence(answer)
        assert decision.delay > 0 or asked.pause is not None or asked.hold is not None
