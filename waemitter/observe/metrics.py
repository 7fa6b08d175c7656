"""Every metric of the daemon on one page: they are a public interface, and operators build on it.

Names follow Prometheus: one prefix, base units, `_total` on counters. Labels come from closed sets
only, never from a phone number or an id; a word outside its set is counted as `other`. Who is not
`Events` does not touch a metric: what is counted is logged, by the same call.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, Final, TypeVar

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from waemitter.observe.instruments import Counter, Family, Gauge, Histogram

OTHER: Final = "other"

OUTCOMES: Final = ("sent", "retry", "throttled", "failed", "unconfirmed", "released")
MESSAGE_STATUSES: Final = (
    *("queued", "sending", "unconfirmed", "sent", "delivered", "read"),
    *("failed", "cancelled", "expired", "suppressed"),
)
RESOLUTIONS: Final = ("confirmed", "failed", "resent", "held", "duplicate", OTHER)
PAUSE_REASONS: Final = (
    *("operator", "pause_number", "pause_account", "throttle_number", "throttle_app"),
    OTHER,
)
DIRECTIONS: Final = ("inbound", "outbound")
LETTER_STATUSES: Final = ("pending", "resolved", "abandoned", "discarded")
STATUSES: Final = ("sent", "delivered", "read", "played", "failed", OTHER)
STATUS_RESULTS: Final = ("applied", "stale", "parked", "unknown", OTHER)
SOURCES: Final = ("whatsapp", "chatwoot", "outbox", OTHER)
EVENT_KINDS: Final = (
    *("message", "status", "error", "change", "duplicate", "unknown_number", "malformed", "failed"),
    OTHER,
)
REJECTIONS: Final = (
    *("handshake_refused", "no_verify_token", "no_secret", "missing_signature", "bad_signature"),
    *("too_large", "too_slow", "disconnected", "overloaded", "not_json", "journal_unavailable"),
)
AGENT_OUTCOMES: Final = (
    *("ok", "rate_limited", "timeout", "unreachable", "server", "malformed", "refused"),
    *("circuit_open", "cancelled", "over_budget", OTHER),
)
TOOL_OUTCOMES: Final = (
    *("ok", "refused", "failed", "timeout", "wrong_arguments", "unknown", "circuit_open"),
    OTHER,
)
REVIEWS: Final = ("kept", "rewritten", "rejected", "skipped", OTHER)
BUFFER_STATUSES: Final = ("open", "processing", "failed")
FLUSH_REASONS: Final = ("time", "age", "size", "at_once", "trigger", OTHER)
UNROUTED: Final = "none"
"""The route of what nobody answers."""
TURN_OUTCOMES: Final = (
    *(
        "answered",
        "forwarded",
        "silent",
        "human",
        "superseded",
        "retry",
        "failed",
        "lost",
        "rate_limited",
    ),
    OTHER,
)
MEDIA_OUTCOMES: Final = ("stored", "retry", "failed")
WEBHOOK_RESULTS: Final = ("verified", "accepted", *REJECTIONS, OTHER)
JOBS: Final = (
    *("dlq-processor", "buffer-processor", "session-cleanup", "cleanup-stuck-conversations"),
    *("refresh-analytics", "retention", "alerts", "chatwoot-reconciler", OTHER),
)
DELIVERY_OUTCOMES: Final = ("delivered", "failed", "refused", "hopeless", "gone")
JOB_OUTCOMES: Final = ("succeeded", "failed", "cut_short")

_Child = TypeVar("_Child", Counter, Gauge, Histogram)


def closed(word: str, words: tuple[str, ...]) -> str:
    """Keep a label's set of values closed, whatever Meta or an operator has written."""
    return word if word in words else OTHER


class Metrics:
    """The metrics of one daemon, all of them touched by its event loop alone.

    Each attribute is a `Family`, named as in the exposition without the prefix.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self._families: list[Family[Counter] | Family[Gauge] | Family[Histogram]] = []
        self._channels: set[str] = set()
        self._define_outbox()
        self._define_webhooks()
        self._define_agents()
        self._define_turns()
        self._define_events()
        self._define_daemon()
        self._initialise()
        registry.register(self)
        ProcessCollector(registry=registry)

    def _define_outbox(self) -> None:
        new = self._family
        self.outbox_messages = new(
            Gauge, "outbox_messages", "Rows of the outbox by status.", "channel", "status"
        )
        self.outbox_oldest_due_age = new(
            Gauge,
            "outbox_oldest_due_age_seconds",
            "How long the oldest due row has been waiting.",
            "channel",
        )
        self.outbox_sends = new(
            Counter, "outbox_sends_total", "Attempts by outcome.", "channel", "outcome"
        )
        self.outbox_leases_expired = new(
            Counter,
            "outbox_leases_expired_total",
            "Attempts whose sender vanished before it told an outcome.",
            "channel",
        )
        self.outbox_send_duration = new(
            Histogram, "outbox_send_duration_seconds", "From the POST to Meta's whole answer."
        )
        self.outbox_pickup_latency = new(
            Histogram, "outbox_pickup_latency_seconds", "From available to the POST."
        )
        self.outbox_unconfirmed = new(
            Counter,
            "outbox_unconfirmed_total",
            "Attempts of unknown outcome, by how they were resolved.",
            "resolution",
        )
        self.rate_limit_tokens = new(
            Gauge, "rate_limit_tokens", "Messages the channel may send at once.", "channel"
        )
        self.rate_limit_wait = new(
            Histogram, "rate_limit_wait_seconds", "How long a due row waited for its send slot."
        )
        self.channel_paused = new(
            Gauge, "channel_paused", "1 while the channel is paused.", "channel", "reason"
        )
        self.dead_letters = new(
            Gauge, "dead_letters", "Dead letters, in and out.", "direction", "status"
        )
        self.status_updates = new(
            Counter,
            "status_updates_total",
            "Delivery statuses from Meta, by what became of them.",
            "status",
            "result",
        )

    def _define_webhooks(self) -> None:
        new = self._family
        self.webhook_requests = new(
            Counter, "webhook_requests_total", "Webhook requests by answer.", "source", "result"
        )
        self.webhook_request_duration = new(
            Histogram,
            "webhook_request_duration_seconds",
            "From the request's headers to the decision to answer 200.",
        )
        self.webhook_spool_bytes = new(
            Gauge, "webhook_spool_bytes", "Bytes on disk that wait for Postgres to come back."
        )
        self.inbound_media = new(
            Counter, "inbound_media_total", "Tries to fetch customers' files.", "outcome"
        )
        self.webhook_events = new(
            Counter,
            "webhook_events_total",
            "Items found in webhooks: one request may carry a thousand.",
            "source",
            "kind",
        )

    def _define_agents(self) -> None:
        new = self._family
        self.agent_requests = new(
            Counter, "agent_requests_total", "Requests to models by outcome.", "agent", "outcome"
        )
        self.agent_tokens = new(
            Counter, "agent_tokens_total", "Tokens shown and said.", "agent", "direction"
        )
        self.agent_reviews = new(
            Counter, "agent_reviews_total", "Drafts looked at twice, by result.", "agent", "result"
        )
        self.agent_tool_calls = new(
            Counter,
            "agent_tool_calls_total",
            "Calls of tools that models asked for, by outcome.",
            "agent",
            "tool",
            "outcome",
        )

    def _define_turns(self) -> None:
        new = self._family
        self.buffers = new(
            Gauge, "buffers", "Windows and turns that have not ended well.", "status"
        )
        self.conversations_stuck = new(
            Gauge, "conversations_stuck", "Conversations that nobody goes on with."
        )
        self.buffer_flushes = new(
            Counter,
            "buffer_flushes_total",
            "Windows that became turns, by why they closed.",
            "reason",
        )
        self.turns = new(
            Counter, "turns_total", "Turns by what became of them.", "route", "outcome"
        )
        self.turn_duration = new(
            Histogram, "turn_duration_seconds", "From the claim of a turn to its commit."
        )

    def _define_events(self) -> None:
        new = self._family
        self.event_deliveries = new(
            Counter,
            "event_deliveries_total",
            "Deliveries of events to subscriptions, by outcome.",
            "subscription",
            "outcome",
        )
        self.event_delivery_latency = new(
            Histogram,
            "event_delivery_latency_seconds",
            "From a change to the receiver's yes to its event.",
        )

    def _define_daemon(self) -> None:
        new = self._family
        self.listener_connected = new(
            Gauge, "listener_connected", "1 while the LISTEN connection is up."
        )
        self.listener_reconnects = new(
            Counter, "listener_reconnects_total", "LISTEN connections made after the first."
        )
        self.circuit_state = new(
            Gauge, "circuit_state", "0 closed, 1 half-open, 2 open: not asked for now.", "target"
        )
        self.oldest_snapshot = new(
            Gauge,
            "oldest_snapshot_seconds",
            "For how long the oldest snapshot of any transaction has been held; vacuum waits for it.",
        )
        self.event_loop_lag = new(
            Gauge, "event_loop_lag_seconds", "How late the event loop ran a timer, last measured."
        )
        self.job_runs = new(Counter, "job_runs_total", "Runs of jobs.", "job", "outcome")
        self.job_last_success = new(
            Gauge,
            "job_last_success_timestamp_seconds",
            "When this daemon, or before its start any, last ran the job to its end; 0 is never.",
            "job",
        )
        self.alert_notifications = new(
            Counter,
            "alert_notifications_total",
            "Alerts that the receiver took, and that it did not.",
            "outcome",
        )
        self.build_info = new(Gauge, "build_info", "1, labelled by the build.", "version", "python")

    def _family(self, new: type[_Child], name: str, meaning: str, *labels: str) -> Family[_Child]:
        family = Family(new, f"waemitter_{name}", meaning, *labels)
        if not labels:
            family.labels()
        self._families.append(family)
        return family

    def _initialise(self) -> None:
        self.for_source(SOURCES[0])
        for outcome in MEDIA_OUTCOMES:
            self.inbound_media.labels(outcome)
        for status in STATUSES:
            for result in STATUS_RESULTS[:-1]:
                self.status_updates.labels(status, result)
        for direction in DIRECTIONS:
            for status in LETTER_STATUSES:
                self.dead_letters.labels(direction, status)
        self._initialise_jobs()
        for resolution in RESOLUTIONS[:-1]:
            self.outbox_unconfirmed.labels(resolution)
        self._initialise_turns()

    def _initialise_turns(self) -> None:
        for status in BUFFER_STATUSES:
            self.buffers.labels(status)
        for reason in FLUSH_REASONS[:-1]:
            self.buffer_flushes.labels(reason)
        self.for_route(UNROUTED)

    def for_source(self, name: str) -> None:
        """Bring every series of a source of webhooks into being at zero."""
        for result in WEBHOOK_RESULTS[:-1]:
            self.webhook_requests.labels(name, result)
        for kind in EVENT_KINDS[:-1]:
            self.webhook_events.labels(name, kind)

    def for_route(self, name: str) -> None:
        """Bring every series of a route into being at zero."""
        for outcome in TURN_OUTCOMES[:-1]:
            self.turns.labels(name, outcome)

    def _initialise_jobs(self) -> None:
        for job in JOBS[:-1]:
            self.job_last_success.labels(job)
            for outcome in JOB_OUTCOMES:
                self.job_runs.labels(job, outcome)
        for outcome in ("sent", "failed"):
            self.alert_notifications.labels(outcome)

    def for_channel(self, name: str) -> None:
        """Bring every series of a channel into being at zero, so that a rate has a start."""
        if name in self._channels:
            return
        self._channels.add(name)
        for outcome in OUTCOMES:
            self.outbox_sends.labels(name, outcome)
        for status in MESSAGE_STATUSES:
            self.outbox_messages.labels(name, status)
        for reason in PAUSE_REASONS:
            self.channel_paused.labels(name, reason)
        self.outbox_oldest_due_age.labels(name)
        self.outbox_leases_expired.labels(name)
        self.rate_limit_tokens.labels(name)

    def for_agent(self, name: str, tools: Sequence[str] = ()) -> None:
        """The same for an agent and its tools."""
        for tool in tools:
            for outcome in TOOL_OUTCOMES[:-1]:
                self.agent_tool_calls.labels(name, tool, outcome)
        for outcome in AGENT_OUTCOMES[:-1]:
            self.agent_requests.labels(name, outcome)
        for direction in ("input", "output"):
            self.agent_tokens.labels(name, direction)
        for result in REVIEWS[:-1]:
            self.agent_reviews.labels(name, result)

    def for_subscription(self, name: str) -> None:
        """The same for a subscription to events."""
        for outcome in DELIVERY_OUTCOMES:
            self.event_deliveries.labels(name, outcome)

    def pause(self, channel: str, reason: str | None) -> None:
        """Say why the channel is paused, or None when it is not: one reason at a time."""
        for each in PAUSE_REASONS:
            self.channel_paused.labels(channel, each).set(float(each == reason))

    def collect(self) -> Iterable[Metric]:
        """Answer prometheus_client, which asks once a scrape."""
        return (family.collect() for family in self._families)

    def describe(self) -> Iterable[Metric]:
        return self.collect()

    def render(self) -> tuple[bytes, str]:
        """Return the Prometheus text format and its content type."""
        return generate_latest(self._registry), CONTENT_TYPE_PLAIN_0_0_4

    def as_json(self) -> dict[str, Any]:
        """Return the same numbers: metric → type, help, samples (name, labels, value)."""
        return {
            metric.name: {
                "type": metric.type,
                "help": metric.documentation,
                "samples": [
                    {"name": sample.name, "labels": sample.labels, "value": sample.value}
                    for sample in metric.samples
                    if math.isfinite(sample.value)
                ],
            }
            for metric in self._registry.collect()
        }
