import pytest

from tests.observing import Attempt, observing

ATTEMPT = Attempt(channel="default", message_id=7, correlation_id="c-1", attempt=2)


@pytest.fixture
def observed():
    with observing() as observed:
        observed.metrics.for_channel("default")
        yield observed


def sends(observed, outcome):
    return observed.value("outbox_sends_total", channel="default", outcome=outcome)


def test_a_sent_message_is_one_line_one_count_and_two_observations(observed):
    observed.events.message_sent(**ATTEMPT, took=0.0841234567, pickup=0.004)
    (line,) = observed.lines("OUTBOX_MESSAGE_SENT")
    assert line["took"] == 0.084123
    assert line["correlation_id"] == "c-1"
    assert sends(observed, "sent") == 1
    assert observed.value("outbox_send_duration_seconds_count") == 1
    assert observed.value("outbox_pickup_latency_seconds_bucket", le="0.005") == 1


def test_a_dry_run_does_not_count_as_time_that_meta_took(observed):
    observed.events.message_sent(**ATTEMPT, took=0.0, pickup=0.004, dry_run=True)
    assert observed.lines()[0]["dry_run"] is True
    assert sends(observed, "sent") == 1
    assert observed.value("outbox_send_duration_seconds_count") == 0


def test_a_later_attempt_has_no_pickup_latency(observed):
    observed.events.message_sent(**ATTEMPT, took=0.1, pickup=None)
    assert "pickup" not in observed.lines()[0]
    assert observed.value("outbox_pickup_latency_seconds_count") == 0


@pytest.mark.parametrize(
    ("error_class", "outcome", "level"),
    [
        ("RETRY", "retry", "warning"),
        ("DEFER", "retry", "warning"),
        ("THROTTLE_NUMBER", "throttled", "info"),
        ("THROTTLE_PAIR", "throttled", "info"),
    ],
)
def test_a_throttle_is_counted_apart_from_a_fault(observed, error_class, outcome, level):
    observed.events.retry_scheduled(
        **ATTEMPT, error_class=error_class, error_code=130429, delay=1.0
    )
    assert sends(observed, outcome) == 1
    assert observed.lines()[0]["level"] == level


def test_an_error_without_a_code_has_no_such_key(observed):
    observed.events.failed_permanently(
        **ATTEMPT, error_class="FAIL", error_code=None, reason="template: no such key"
    )
    assert "error_code" not in observed.lines("OUTBOX_FAILED_PERMANENTLY")[0]
    assert sends(observed, "failed") == 1


def test_a_reason_that_quotes_a_number_is_masked(observed):
    observed.events.unconfirmed(**ATTEMPT, reason="reset while sending to +14155550123")
    assert "14155550123" not in observed.text()
    assert sends(observed, "unconfirmed") == 1


def test_rows_given_back_are_counted_each(observed):
    observed.events.slot_missed(channel="default", count=3)
    assert sends(observed, "released") == 3


def test_a_pause_is_counted_by_a_closed_set_and_logged_in_full(observed):
    observed.events.channel_paused(channel="default", reason="the number is on holiday", seconds=60)
    assert observed.lines()[0]["reason"] == "the number is on holiday"
    assert observed.value("channel_paused", channel="default", reason="other") == 1
    observed.events.channel_paused(channel="default", reason="PAUSE_ACCOUNT", seconds=60)
    assert observed.value("channel_paused", channel="default", reason="pause_account") == 1
    observed.events.channel_resumed(channel="default")
    assert observed.value("channel_paused", channel="default", reason="pause_account") == 0


def test_a_sample_zeroes_the_statuses_it_does_not_name(observed):
    sample = {"oldest_due_age": 0.0, "tokens": 1.0, "paused": None}
    observed.events.outbox_sampled(channel="default", messages={"queued": 9}, **sample)
    observed.events.outbox_sampled(channel="default", messages={"sent": 9}, **sample)
    assert observed.value("outbox_messages", channel="default", status="queued") == 0
    assert observed.value("outbox_messages", channel="default", status="sent") == 9


def test_only_a_reconnect_counts_as_one(observed):
    observed.events.listener_connected(reconnect=False)
    assert observed.value("listener_connected") == 1
    observed.events.listener_lost(error="ConnectionResetError")
    assert observed.value("listener_connected") == 0
    observed.events.listener_connected(reconnect=True)
    assert observed.value("listener_connected") == 1
    assert observed.value("listener_reconnects_total") == 1


def test_an_outage_is_told_once_however_many_notice(observed):
    for _ in range(3):
        observed.events.database_lost(error="ConnectionRefusedError")
    for _ in range(3):
        observed.events.database_back()
    assert [line["event"] for line in observed.lines()] == ["DATABASE_LOST", "DATABASE_BACK"]


def test_statuses_and_kinds_from_meta_cannot_open_new_series(observed):
    observed.events.statuses_applied({("sent", "applied"): 4, ("deleted", "unknown"): 1})
    observed.events.items_handled(kinds={"status": 5})
    assert observed.value("status_updates_total", status="sent", result="applied") == 4
    assert observed.value("status_updates_total", status="deleted", result="unknown") is None
    assert observed.value("status_updates_total", status="other", result="unknown") == 1
    assert observed.value("webhook_events_total", source="whatsapp", kind="status") == 5


def test_a_lag_is_a_warning_only_when_it_hurts(observed):
    observed.events.loop_lag_measured(lag=0.02)
    assert observed.lines() == []
    assert observed.value("event_loop_lag_seconds") == 0.02
    observed.events.loop_lag_measured(lag=0.2)
    assert len(observed.lines("EVENT_LOOP_LAGGED")) == 1


def test_a_routine_claim_is_debug_and_another_info(observed):
    observed.events.batch_claimed(channel="default", rows=2)
    observed.events.batch_claimed(channel="default", rows=2, routine=False)
    assert [line["level"] for line in observed.lines()] == ["debug", "info"]


def test_without_a_log_everything_is_still_counted():
    with observing("critical") as observed:
        observed.events.message_sent(**ATTEMPT, took=0.1, pickup=0.1)
        observed.events.webhook_rejected(source="whatsapp", reason="too_large")
    assert observed.text() == ""
    assert sends(observed, "sent") == 1
    assert observed.value("webhook_requests_total", source="whatsapp", result="too_large") == 1
