"""Which alerts hold, by a daemon's figures and by what the database tells; and how they are posted."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from string import Formatter

import pytest
from prometheus_client import CollectorRegistry

from tests.deploying import assert_runs
from waemitter.jobs.alerts.body import NEVER, Alert, body, fingerprint
from waemitter.jobs.alerts.conditions import JobState, Observation, of_channels, of_figures, of_jobs
from waemitter.jobs.alerts.history import COARSE, FINE, LONGEST, History, Series, Snapshot, quantile
from waemitter.jobs.alerts.rules import RULES, Limits
from waemitter.jobs.alerts.watch import snapshot
from waemitter.observe.instruments import BOUNDS
from waemitter.observe.metrics import Metrics

WELL: Mapping[Series, float] = {
    ("outbox_oldest_due_age_seconds", "default"): 0,
    ("outbox_sends_total", "default", "sent"): 0,
    ("outbox_sends_total", "default", "failed"): 0,
    ("outbox_unconfirmed_total", "duplicate"): 0,
    ("channel_paused", "default", "pause_account"): 0,
    ("channel_paused", "default", "operator"): 0,
    ("status_updates_total", "sent", "applied"): 0,
    ("status_updates_total", "sent", "stale"): 0,
    ("status_updates_total", "failed", "applied"): 0,
    ("dead_letters", "inbound", "pending"): 0,
    ("dead_letters", "outbound", "pending"): 0,
    ("dead_letters", "outbound", "abandoned"): 9000,
    ("conversations_stuck",): 0,
    ("webhook_spool_bytes",): 0,
    ("webhook_requests_total", "whatsapp", "bad_signature"): 0,
    ("webhook_requests_total", "whatsapp", "no_secret"): 0,
    ("webhook_requests_total", "whatsapp", "journal_unavailable"): 0,
    ("circuit_state", "http://127.0.0.1:9000"): 0,
    ("listener_connected",): 1,
    ("event_loop_lag_seconds",): 0,
    ("oldest_snapshot_seconds",): 0,
}
NONE = (0,) * (len(BOUNDS) + 1)


def slow(seconds: float, n: int) -> tuple[int, ...]:
    return tuple(n if bound == seconds else 0 for bound in (*BOUNDS, 0.0))


def history(
    *figures: tuple[float, Mapping[Series, float]], buckets: tuple[int, ...] = NONE
) -> History:
    """Well at first, then those figures at those seconds; the webhooks come with the last."""
    made = History()
    made.add(Snapshot(0, WELL, NONE))
    for at, values in figures:
        last = at == figures[-1][0]
        made.add(Snapshot(at, {**WELL, **values}, buckets if last else NONE))
    return made


def found(made: History, limits: Limits | None = None) -> dict[str, Observation]:
    observed = of_figures(made, limits or Limits(), bounds=BOUNDS, instance="a:8080")
    return {each.name: each for each in observed}


def test_a_daemon_that_is_well_has_nothing_to_tell() -> None:
    assert found(history((60, {}))) == {}


@pytest.mark.parametrize(
    ("name", "wrong", "tolerated", "labels"),
    [
        (
            "WaemitterBacklogOld",
            {("outbox_oldest_due_age_seconds", "default"): 300.1},
            {("outbox_oldest_due_age_seconds", "default"): 300},
            {"channel": "default"},
        ),
        (
            "WaemitterChannelPaused",
            {("channel_paused", "default", "pause_account"): 1},
            {("channel_paused", "default", "operator"): 1},
            {"channel": "default", "reason": "pause_account"},
        ),
        (
            "WaemitterSendsFail",
            {
                ("outbox_sends_total", "default", "sent"): 94,
                ("outbox_sends_total", "default", "failed"): 6,
            },
            {
                ("outbox_sends_total", "default", "sent"): 95,
                ("outbox_sends_total", "default", "failed"): 5,
            },
            {"channel": "default"},
        ),
        (
            "WaemitterSendsFail",
            {
                ("outbox_sends_total", "default", "sent"): 10,
                ("outbox_sends_total", "default", "failed"): 10,
            },
            {("outbox_sends_total", "default", "failed"): 19},  # too few to say anything
            {"channel": "default"},
        ),
        (
            "WaemitterUnconfirmedResent",
            {("outbox_unconfirmed_total", "duplicate"): 1},
            {},
            {},
        ),
        (
            "WaemitterDeliveryLow",
            {
                ("status_updates_total", "sent", "applied"): 900,
                ("status_updates_total", "sent", "stale"): 101,
                ("status_updates_total", "failed", "applied"): 6,
            },
            {
                ("status_updates_total", "sent", "applied"): 1000,
                ("status_updates_total", "failed", "applied"): 600,
            },
            {},
        ),
        (
            "WaemitterDeadLetters",
            {("dead_letters", "inbound", "pending"): 8, ("dead_letters", "outbound", "pending"): 3},
            {("dead_letters", "inbound", "pending"): 8, ("dead_letters", "outbound", "pending"): 2},
            {},
        ),
        (
            "WaemitterConversationsStuck",
            {("conversations_stuck",): 6},
            {("conversations_stuck",): 5},
            {},
        ),
        (
            "WaemitterCircuitOpen",
            {("circuit_state", "http://127.0.0.1:9000"): 2},
            {("circuit_state", "http://127.0.0.1:9000"): 1},
            {"target": "http://127.0.0.1:9000"},
        ),
        ("WaemitterSpooling", {("webhook_spool_bytes",): 1}, {}, {}),
        (
            "WaemitterWebhooksRefused",
            {
                ("webhook_requests_total", "whatsapp", "bad_signature"): 20,
                ("webhook_requests_total", "whatsapp", "no_secret"): 11,
            },
            {("webhook_requests_total", "whatsapp", "bad_signature"): 30},
            {},
        ),
        (
            "WaemitterWebhooksUnstored",
            {("webhook_requests_total", "whatsapp", "journal_unavailable"): 1},
            {},
            {},
        ),
        ("WaemitterListenerDown", {("listener_connected",): 0}, {}, {"instance": "a:8080"}),
    ],
)
def test_what_is_wrong_is_told_from_what_is_tolerated(
    name: str,
    wrong: Mapping[Series, float],
    tolerated: Mapping[Series, float],
    labels: dict[str, str],
) -> None:
    observed = found(history((60, wrong)))
    assert list(observed) == [name]
    assert observed[name].labels == labels
    assert found(history((60, tolerated))) == {}


def test_slow_webhooks_miss_the_promise_first() -> None:
    assert list(found(history((60, {}), buckets=slow(1.0, 100)))) == []
    assert list(found(history((60, {}), buckets=slow(2.5, 100)))) == [
        "WaemitterWebhooksSlow",
        "WaemitterSloMissed",
    ]
    patient = Limits(p95=3.0)
    assert list(found(history((60, {}), buckets=slow(2.5, 100)), patient)) == ["WaemitterSloMissed"]


def test_what_happened_longer_ago_than_a_rule_looks_is_past() -> None:
    refused: dict[Series, float] = {("webhook_requests_total", "whatsapp", "bad_signature"): 1000}
    assert found(history((60, refused), (120, refused))) != {}
    assert found(history((60, refused), (361, refused))) == {}


def test_lag_counts_when_it_lasted_two_minutes() -> None:
    lag: dict[Series, float] = {("event_loop_lag_seconds",): 0.2}
    assert found(history((1, lag), (60, lag))) == {}
    assert found(history((1, lag), (121, lag)))["WaemitterEventLoopLags"].value == 0.2
    assert found(history((1, lag), (60, {}), (121, lag))) == {}


def test_a_snapshot_that_is_held_for_ten_minutes_is_told_of() -> None:
    def held(seconds: float) -> dict[Series, float]:
        return {("oldest_snapshot_seconds",): seconds}

    assert found(history((1, held(600)))) == {}
    assert found(history((1, held(601))))["WaemitterSnapshotHeld"].value == 601


def test_every_limit_is_a_limit() -> None:
    lenient = Limits(
        stuck=99,
        dead_letters=99,
        oldest_due=999,
        failure_ratio=1,
        undelivered_ratio=1,
    )
    wrong: dict[Series, float] = {
        ("conversations_stuck",): 50,
        ("dead_letters", "inbound", "pending"): 50,
        ("outbox_oldest_due_age_seconds", "default"): 900,
        ("outbox_sends_total", "default", "failed"): 100,
        ("status_updates_total", "sent", "applied"): 2000,
        ("status_updates_total", "failed", "applied"): 1000,
    }
    assert len(found(history((60, wrong)))) == 5
    assert found(history((60, wrong)), lenient) == {}


# --- the history --------------------------------------------------------------------------------------------------------------


def test_a_day_is_remembered_in_little_room() -> None:
    made = History()
    for at in range(0, 200_000, 30):
        made.add(Snapshot(at, {("n",): at}))
    assert len(made) <= FINE / 30 + LONGEST / COARSE + 2
    assert made.increase("n", over=3600) == 3600
    assert made.increase("n", over=86_400) == pytest.approx(86_400, abs=COARSE)


def test_a_counter_that_is_new_began_at_nothing() -> None:
    made = History()
    made.add(Snapshot(0, {}))
    made.add(Snapshot(30, {("n", "a"): 3}))
    assert made.increase("n", "a", over=60) == 3


@pytest.mark.parametrize(
    ("q", "counts", "expected"),
    [
        (0.95, (0, 0, 0), None),
        (0.5, (10, 0, 0), 0.5),
        (0.95, (0, 100, 0), 1.95),
        (0.5, (50, 50, 0), 1.0),
        (0.95, (0, 0, 7), 2.0),  # beyond the last bound, as histogram_quantile has it
    ],
)
def test_quantiles_are_those_of_prometheus(
    q: float, counts: tuple[int, ...], expected: float | None
) -> None:
    assert quantile(q, (1.0, 2.0), counts) == (
        expected if expected is None else pytest.approx(expected)
    )


# --- jobs and channels --------------------------------------------------------------------------------------------------------

NOW = datetime(2026, 7, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("schedule", "ago", "late"),
    [
        ("10s", timedelta(seconds=590), False),  # ten minutes are nothing
        ("10s", timedelta(seconds=610), True),
        ("5m", timedelta(minutes=9), False),
        ("1h", timedelta(minutes=119), False),
        ("1h", timedelta(minutes=121), True),
        ("0 2 * * *", timedelta(hours=47), False),
        ("0 2 * * *", timedelta(hours=49), True),
        ("nonsense", timedelta(minutes=9), False),
        ("nonsense", timedelta(minutes=11), True),
    ],
)
def test_a_job_is_late_after_twice_its_interval(schedule: str, ago: timedelta, late: bool) -> None:  # noqa: FBT001
    observed = [*of_jobs([JobState("retention", schedule, "UTC", NOW - ago, NOW)])]
    assert [each.name for each in observed] == ["WaemitterJobLate"] * late
    if late:
        assert observed[0].summary.startswith("The job retention has not succeeded for ")


def test_a_number_that_meta_rates_low_is_told() -> None:
    assert [each.labels for each in of_channels(["a", "b"])] == [{"channel": "a"}, {"channel": "b"}]


# --- words and bodies ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", RULES)
def test_a_rule_says_something_and_names_commands_that_exist(name: str) -> None:
    rule = RULES[name]
    fields = {field for _, field, _, _ in Formatter().parse(rule.summary) if field}
    said = rule.say(dict.fromkeys(fields - {"value"}, "x"), 61.5)
    assert "{" not in said
    for command in re.findall(r"`waemitter ([a-z ]+)", rule.action):
        assert_runs(command.split())


def alert(**changes: object) -> Alert:
    given: dict[str, object] = {
        "name": "WaemitterChannelPaused",
        "labels": {"channel": "default", "reason": "pause_account"},
        "severity": "page",
        "summary": "Nothing is sent",
        "action": "Look",
        "began_at": NOW,
        "ended_at": None,
    }
    return Alert(**(given | changes))  # type: ignore[arg-type]


def test_the_body_is_alertmanager_s() -> None:
    other = alert(
        labels={"channel": "other", "reason": "pause_account"}, ended_at=NOW + timedelta(minutes=5)
    )
    document = body("WaemitterChannelPaused", [alert(), other], external_url="https://your.host")
    first, second = document.pop("alerts")
    assert document == {
        "version": "4",
        "groupKey": '{}:{alertname="WaemitterChannelPaused"}',
        "truncatedAlerts": 0,
        "status": "firing",
        "receiver": "waemitter",
        "groupLabels": {"alertname": "WaemitterChannelPaused"},
        "commonLabels": {
            "alertname": "WaemitterChannelPaused",
            "severity": "page",
            "reason": "pause_account",
        },
        "commonAnnotations": {"summary": "Nothing is sent", "action": "Look"},
        "externalURL": "https://your.host",
    }
    assert (first["status"], first["startsAt"], first["endsAt"]) == (
        "firing",
        "2026-07-01T12:00:00.000Z",
        NEVER,
    )
    assert (second["status"], second["endsAt"]) == ("resolved", "2026-07-01T12:05:00.000Z")
    assert first["generatorURL"] == "https://your.host"
    assert first["fingerprint"] != second["fingerprint"]


def test_a_group_is_over_when_all_of_it_is() -> None:
    assert body("a", [alert(ended_at=NOW)], external_url="")["status"] == "resolved"


def test_a_fingerprint_is_of_the_labels_alone() -> None:
    assert fingerprint({"a": "1", "b": "2"}) == fingerprint({"b": "2", "a": "1"})
    assert re.fullmatch(r"[0-9a-f]{16}", fingerprint({"a": "1"}))


def test_every_series_that_a_rule_reads_is_one_of_the_daemon_s() -> None:
    metrics = Metrics(CollectorRegistry())
    metrics.for_channel("default")
    metrics.circuit_state.labels("http://127.0.0.1:9000")
    real = snapshot(metrics, at=0)
    assert {series[0] for series in WELL} == {series[0] for series in real.values}
    assert set(WELL) <= set(real.values)
    assert len(real.buckets) == len(BOUNDS) + 1
