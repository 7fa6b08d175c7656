"""Every alert. Pure.

The same are in deploy/prometheus/rules.yaml, for who has Prometheus; a test keeps the two in step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from types import MappingProxyType
from typing import Final, Literal

from waemitter.jobs.schedule import span

Severity = Literal["page", "ticket"]
"""`page` wakes a person: messages do not go out, or customers are not heard."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Thresholds. Durations in seconds, ratios as a share of one; what is above it is wrong."""

    stuck: int = 5
    dead_letters: int = 10
    p95: float = 2.0
    slo_p95: float = 1.2
    oldest_due: float = 300.0
    failure_ratio: float = 0.05
    undelivered_ratio: float = 0.005
    loop_lag: float = 0.1
    snapshot: float = 600.0


def seconds(value: float) -> str:
    return f"{value:.3g} s" if value < 60 else span(timedelta(seconds=value))  # noqa: PLR2004 a minute


def percent(value: float) -> str:
    return f"{100 * value:.3g}%"


def count(value: float) -> str:
    return f"{value:.0f}"


def size(value: float) -> str:
    return f"{value / 1024:.0f} kB"


@dataclass(frozen=True, slots=True)
class Rule:
    """`hold`: seconds for which it must be so. `summary` names labels and `{value}`, which `show` puts into words."""

    severity: Severity
    hold: float
    summary: str
    action: str
    show: Callable[[float], str] = count

    def say(self, labels: Mapping[str, str], value: float) -> str:
        return self.summary.format(value=self.show(value), **labels)


RULES: Final[Mapping[str, Rule]] = MappingProxyType(
    {
        "WaemitterBacklogOld": Rule(
            "page",
            60,
            "A due message of {channel} has waited for {value}",
            "Look for a pause (`waemitter channels list`), a rate below what comes in, or a Postgres that does not keep up.",
            seconds,
        ),
        "WaemitterChannelPaused": Rule(
            "page",
            300,
            "Nothing is sent on {channel}, for {reason}",
            "A token that expired, a locked account, unpaid bills; `waemitter channels list` tells which.",
        ),
        "WaemitterSendsFail": Rule(
            "page",
            600,
            "{value} of the sends on {channel} fail for good",
            "`waemitter outbox list --status failed` names Meta's error codes.",
            percent,
        ),
        "WaemitterDeliveryLow": Rule(
            "ticket",
            0,
            "{value} of a day's messages were not delivered; the target is 0.5 %",
            "Numbers that are no longer on WhatsApp, or Meta holds marketing back (131049); clean the lists.",
            percent,
        ),
        "WaemitterDeadLetters": Rule(
            "ticket",
            60,
            "{value} dead letters wait",
            "`waemitter dlq list` shows what failed at which stage; mend that, then `waemitter dlq retry`.",
        ),
        "WaemitterConversationsStuck": Rule(
            "ticket",
            60,
            "{value} conversations are stuck",
            "`SELECT * FROM waemitter.stuck_webhook_conversations` says why; `waemitter jobs run cleanup-stuck-conversations`"
            " frees those whose daemon is gone.",
        ),
        "WaemitterJobLate": Rule(
            "ticket",
            0,
            "The job {job} has not succeeded for {value}",
            "`waemitter jobs list` and `waemitter.job_runs` say why; `waemitter jobs run` tries it now.",
            seconds,
        ),
        "WaemitterWebhooksSlow": Rule(
            "ticket",
            300,
            "95 of 100 webhooks take {value}",
            "Postgres commits slowly, or the CPU is short; Meta gives up after ten seconds and delivers again.",
            seconds,
        ),
        "WaemitterSloMissed": Rule(
            "ticket",
            900,
            "95 of 100 webhooks take {value}, more than was promised",
            "The promise is WAEMITTER_SLO__P95; Postgres commits slowly, or the CPU is short.",
            seconds,
        ),
        "WaemitterWebhooksRefused": Rule(
            "ticket",
            600,
            "Webhooks with a wrong signature come in",
            "An app secret that was changed (WHATSAPP_APP_SECRET takes the old and the new), or a stranger who tries.",
        ),
        "WaemitterWebhooksUnstored": Rule(
            "page",
            120,
            "Webhooks are answered with 503",
            "Postgres is away; Meta delivers again, for up to seven days. A spool (WAEMITTER_INBOX__SPOOL_DIR) would take them.",
        ),
        "WaemitterSpooling": Rule(
            "ticket",
            600,
            "{value} of webhooks wait on disk",
            "Postgres is away or refuses them; the log says which (`WEBHOOK_SPOOL_`).",
            size,
        ),
        "WaemitterCircuitOpen": Rule(
            "ticket",
            300,
            "{target} fails, and is left alone most of the time",
            "Turns of its routes are retried and become dead letters; look at that service.",
        ),
        "WaemitterListenerDown": Rule(
            "ticket",
            60,
            "{instance} hears no notifications",
            "Messages leave late, found by the sweep alone. Behind a transaction pooler set WAEMITTER_DATABASE__LISTEN_URL.",
        ),
        "WaemitterUnconfirmedResent": Rule(
            "ticket",
            0,
            "{value} messages may have reached their recipient twice",
            "Answers of Meta were lost, and their statuses came late; docs/guarantees.md tells how the wait is chosen.",
        ),
        "WaemitterEventLoopLags": Rule(
            "ticket",
            0,
            "{instance} is held up by {value}",
            "The process gets too little CPU; send slots are missed from here.",
            seconds,
        ),
        "WaemitterSnapshotHeld": Rule(
            "ticket",
            0,
            "A transaction has been open for {value}",
            "No vacuum cleans up behind it, and claims grow slower. The log names its holder (`SNAPSHOT_HELD`).",
            seconds,
        ),
        "WaemitterQualityLow": Rule(
            "ticket",
            0,
            "Meta rates the quality of {channel} as low",
            "People block or report what is sent there; send less marketing, and look at WhatsApp Manager.",
        ),
        "WaemitterDatabaseAway": Rule(
            "page",
            60,
            "{instance} does not reach Postgres",
            "Nothing is sent and no webhook is taken but for a spool; `waemitter doctor` says what it meets.",
        ),
    }
)

ONLY_HERE: Final = frozenset({"WaemitterQualityLow", "WaemitterDatabaseAway"})
"""What no metric tells: the first is in the database alone, and of the second Prometheus sees the consequences."""

LEAST_SENDS: Final = 20
"""Sends in a quarter of an hour below which a share of failures says nothing."""
LEAST_STATUSES: Final = 1000
"""Messages in a day below which a share of undelivered ones says nothing."""
LEAST_REFUSED: Final = 0.1
"""Webhooks a second with a wrong signature: fewer are somebody's mistake."""
JOB_PATIENCE: Final = 600.0
"""Seconds that no job is late within, however short its interval."""
