"""Which rules hold. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from waemitter.jobs.alerts.history import History
from waemitter.jobs.alerts.rules import (
    JOB_PATIENCE,
    LEAST_REFUSED,
    LEAST_SENDS,
    LEAST_STATUSES,
    RULES,
    Limits,
)
from waemitter.jobs.schedule import ScheduleError, parse

MINUTE: Final = 60.0
DAY: Final = 86_400.0
PASSING: Final = ("operator", "throttle_number", "throttle_app")
"""Reasons of pauses that somebody wanted, or that end by themselves."""
WRONG_SIGNATURES: Final = ("bad_signature", "missing_signature", "no_secret")
OPEN: Final = 2.0
"""circuit_state of a target that is not asked."""


@dataclass(frozen=True, slots=True)
class Observation:
    """A rule holds now. What alert it is, its labels say; `value` is in the rule's unit."""

    name: str
    value: float
    labels: dict[str, str] = field(default_factory=dict)

    @property
    def summary(self) -> str:
        return RULES[self.name].say(self.labels, self.value)


class JobState(NamedTuple):
    """A job that is enabled; `succeeded_at`: when it last did, or when it was first known."""

    name: str
    schedule: str
    time_zone: str
    succeeded_at: datetime
    now: datetime


def of_figures(
    history: History, limits: Limits, *, bounds: Sequence[float], instance: str
) -> Iterator[Observation]:
    """What a daemon's own figures tell. `bounds` are those of the buckets, `instance` is the daemon's name."""
    yield from _sends(history, limits)
    yield from _deliveries(history, limits)
    yield from _turns(history, limits)
    yield from _webhooks(history, limits, bounds)
    yield from _refusals(history)
    if history.least("listener_connected", over=0.0) == 0:
        yield Observation("WaemitterListenerDown", 0, {"instance": instance})
    lag = history.least("event_loop_lag_seconds", over=2 * MINUTE)
    if lag is not None and lag > limits.loop_lag:
        yield Observation("WaemitterEventLoopLags", lag, {"instance": instance})
    for _, held in history.series("oldest_snapshot_seconds"):
        if held > limits.snapshot:
            yield Observation("WaemitterSnapshotHeld", held)


def _sends(history: History, limits: Limits) -> Iterator[Observation]:
    for (channel,), age in history.series("outbox_oldest_due_age_seconds"):
        if age > limits.oldest_due:
            yield Observation("WaemitterBacklogOld", age, {"channel": channel})
        sent = history.increase("outbox_sends_total", channel, "sent", over=15 * MINUTE)
        failed = history.increase("outbox_sends_total", channel, "failed", over=15 * MINUTE)
        if sent + failed >= LEAST_SENDS and failed / (sent + failed) > limits.failure_ratio:
            ratio = failed / (sent + failed)
            yield Observation("WaemitterSendsFail", ratio, {"channel": channel})
    for (channel, reason), paused in history.series("channel_paused"):
        if paused and reason not in PASSING:
            labels = {"channel": channel, "reason": reason}
            yield Observation("WaemitterChannelPaused", 1, labels)


def _deliveries(history: History, limits: Limits) -> Iterator[Observation]:
    doubled = history.increase("outbox_unconfirmed_total", "duplicate", over=60 * MINUTE)
    if doubled > 0:
        yield Observation("WaemitterUnconfirmedResent", doubled)
    accepted = sum(
        history.increase("status_updates_total", "sent", result, over=DAY)
        for (status, result), _ in history.series("status_updates_total")
        if status == "sent"
    )
    undelivered = history.increase("status_updates_total", "failed", "applied", over=DAY)
    if accepted > LEAST_STATUSES and undelivered / accepted > limits.undelivered_ratio:
        yield Observation("WaemitterDeliveryLow", undelivered / accepted)


def _turns(history: History, limits: Limits) -> Iterator[Observation]:
    letters = sum(n for (_, status), n in history.series("dead_letters") if status == "pending")
    if letters > limits.dead_letters:
        yield Observation("WaemitterDeadLetters", letters)
    for _, stuck in history.series("conversations_stuck"):
        if stuck > limits.stuck:
            yield Observation("WaemitterConversationsStuck", stuck)
    for (target,), state in history.series("circuit_state"):
        if state == OPEN:
            yield Observation("WaemitterCircuitOpen", state, {"target": target})


def _webhooks(history: History, limits: Limits, bounds: Sequence[float]) -> Iterator[Observation]:
    took = history.quantile(0.95, bounds, over=5 * MINUTE)
    if took is not None and took > limits.p95:
        yield Observation("WaemitterWebhooksSlow", took)
    if took is not None and took > limits.slo_p95:
        yield Observation("WaemitterSloMissed", took)
    for _, spooled in history.series("webhook_spool_bytes"):
        if spooled > 0:
            yield Observation("WaemitterSpooling", spooled)


def _refusals(history: History) -> Iterator[Observation]:
    refused, unstored = (
        sum(
            history.increase("webhook_requests_total", source, result, over=5 * MINUTE)
            for (source, result), _ in history.series("webhook_requests_total")
            if result in results
        )
        for results in (WRONG_SIGNATURES, ("journal_unavailable",))
    )
    if refused / (5 * MINUTE) > LEAST_REFUSED:
        yield Observation("WaemitterWebhooksRefused", refused)
    if unstored > 0:
        yield Observation("WaemitterWebhooksUnstored", unstored)


def of_jobs(jobs: Iterable[JobState]) -> Iterator[Observation]:
    """Jobs that have not succeeded for twice the time between two of their runs."""
    for job in jobs:
        late = (job.now - job.succeeded_at).total_seconds()
        if late > max(2 * _interval(job).total_seconds(), JOB_PATIENCE):
            yield Observation("WaemitterJobLate", late, {"job": job.name})


def _interval(job: JobState) -> timedelta:
    """From one run to the next, by the schedule; nothing when nobody can read that, so that it is told of."""
    try:
        schedule = parse(job.schedule, job.time_zone)
    except ScheduleError:
        return timedelta()
    first = schedule.after(job.now, due=None)
    return schedule.after(first, due=first) - first


def of_channels(low: Iterable[str]) -> Iterator[Observation]:
    """`low`: the channels that Meta rates so."""
    for channel in low:
        yield Observation("WaemitterQualityLow", 1, {"channel": channel})
