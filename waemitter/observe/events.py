"""What happens, as typed calls: each one logs a line and counts it, so neither can be forgotten.

Arguments are ids, counts, seconds and words; a phone number or a body has no parameter to come in
by. Routine is `debug`, what happened to a message `info`, what an operator may want to look into
`warning`, what he must look into `error`. The sentences are constant: a line's facts are its keys.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final, Literal, TypeAlias

from structlog.typing import FilteringBoundLogger

from waemitter.observe.metrics import (
    EVENT_KINDS,
    MESSAGE_STATUSES,
    PAUSE_REASONS,
    RESOLUTIONS,
    SOURCES,
    STATUS_RESULTS,
    STATUSES,
    WEBHOOK_RESULTS,
    Metrics,
    closed,
)

EventKind: TypeAlias = Literal["message", "status", "error", "change"]
StatusResult: TypeAlias = Literal["applied", "stale", "unknown", "duplicate"]

Resolution: TypeAlias = Literal["confirmed", "failed", "resent", "held"]
Rejection: TypeAlias = Literal[
    "handshake_refused",
    "no_verify_token",
    "no_secret",
    "missing_signature",
    "bad_signature",
    "too_large",
    "too_slow",
    "disconnected",
    "not_json",
    "journal_unavailable",
]

LAGGING: Final = 0.1
"""Seconds of event loop lag above which it is a warning: rate limit slots are missed from here."""

_NOTHING: Final[Mapping[EventKind, int]] = MappingProxyType({})
_REJECTED: Final[Mapping[Rejection, str]] = {
    "handshake_refused": "A webhook verification without the right verify token was refused",
    "no_verify_token": "A webhook verification was refused: set WHATSAPP_VERIFY_TOKEN",
    "no_secret": "A webhook was refused: set WHATSAPP_APP_SECRET to the app's secret",
    "missing_signature": "A webhook without a signature was refused",
    "bad_signature": "A webhook was refused: its signature matches no app secret",
    "too_large": "A webhook larger than Meta ever sends was refused",
    "too_slow": "A webhook was refused: its body did not arrive in time",
    "disconnected": "A webhook's sender hung up before the body was there",
    "not_json": "A signed webhook is not a JSON object",
    "journal_unavailable": "A webhook could not be stored; its sender was asked to try again",
}


class Events:
    """The only caller of the log and of the metrics. Durations are in seconds, keyword-only all."""

    def __init__(self, metrics: Metrics, logger: FilteringBoundLogger) -> None:
        self._metrics = metrics
        self._log = logger.bind()
        self.database_away = False

    def daemon_started(self, *, address: str, version: str, channels: Sequence[str]) -> None:
        self._metrics.build_info.labels(version, platform.python_version()).set(1)
        for channel in channels:
            self._metrics.for_channel(channel)
        self._log.info(
            "DAEMON_STARTED",
            address=address,
            version=version,
            channels=list(channels),
            msg="Started",
        )

    def daemon_ready(self, *, took: float) -> None:
        self._log.info("DAEMON_READY", took=round(took, 3), msg="Ready: everything is connected")

    def daemon_drained(self, *, took: float) -> None:
        self._log.info("DAEMON_DRAINED", took=round(took, 3), msg="Stopped, with all work settled")

    def grace_ran_out(self) -> None:
        self._log.error(
            "DAEMON_GRACE_RAN_OUT",
            msg="Stopped with work in hand; another daemon will find it when its lease ends",
        )

    def loop_lag_measured(self, *, lag: float) -> None:
        self._metrics.event_loop_lag.labels().set(lag)
        if lag > LAGGING:
            self._log.warning(
                "EVENT_LOOP_LAGGED", lag=round(lag, 3), msg="The event loop was held up"
            )

    def gear_changed(self, *, gear: str) -> None:
        self._log.debug("GEAR_CHANGED", gear=gear, msg="Patrol under load, the bell otherwise")

    def daemon_crashed(self, *, error: str, where: str) -> None:
        """`error`: the exception's class and words; `where`: the service, or the line that raised it."""
        self._log.critical("DAEMON_CRASHED", error=error, where=where, msg="Stopped by a fault")

    def database_lost(self, *, error: str) -> None:
        """Told once for each outage, however many notice it."""
        if not self.database_away:
            self.database_away = True
            self._log.error("DATABASE_LOST", error=error, msg="Postgres does not answer")

    def database_back(self) -> None:
        if self.database_away:
            self.database_away = False
            self._log.info("DATABASE_BACK", msg="Postgres answers again")

    def listener_connected(self, *, reconnect: bool) -> None:
        self._metrics.listener_connected.labels().set(1)
        if reconnect:
            self._metrics.listener_reconnects.labels().inc()
        self._log.info("LISTENER_CONNECTED", reconnect=reconnect, msg="Listening for notifications")

    def listener_lost(self, *, error: str) -> None:
        self._metrics.listener_connected.labels().set(0)
        self._log.warning(
            "LISTENER_LOST", error=error, msg="No notifications are heard; reconnecting"
        )

    def outbox_sampled(
        self,
        *,
        channel: str,
        messages: Mapping[str, int],
        oldest_due_age: float,
        tokens: float,
        paused: str | None,
    ) -> None:
        """`messages`: rows by status; `tokens`: how many may be sent at once, now; `paused`: why, or None."""
        metrics = self._metrics
        for status in MESSAGE_STATUSES:
            metrics.outbox_messages.labels(channel, status).set(messages.get(status, 0))
        metrics.outbox_oldest_due_age.labels(channel).set(oldest_due_age)
        metrics.rate_limit_tokens.labels(channel).set(tokens)
        metrics.pause(channel, paused and _pause_reason(paused))
        self._log.debug(
            "OUTBOX_SAMPLED",
            channel=channel,
            oldest_due_age=round(oldest_due_age, 3),
            msg="The gauges are fresh",
        )

    def batch_claimed(self, *, channel: str, rows: int, routine: bool = True) -> None:
        """`routine` claims, those of a busy queue, are told at debug level only."""
        log = self._log.debug if routine else self._log.info
        log("OUTBOX_BATCH_CLAIMED", channel=channel, rows=rows, msg="Claimed due messages")

    def slot_awaited(self, *, channel: str, wait: float) -> None:
        """`wait`: how long a claimed row waits for its send slot, by the rate limit."""
        self._metrics.rate_limit_wait.labels().observe(wait)
        self._log.debug("OUTBOX_SLOT_AWAITED", channel=channel, wait=wait, msg="Kept to the rate")

    def message_sent(
        self,
        *,
        channel: str,
        message_id: int,
        correlation_id: str | None,
        attempt: int,
        took: float,
        pickup: float | None,
        dry_run: bool = False,
    ) -> None:
        """`took`: the POST, up to Meta's answer; `pickup`: from available to the first attempt's POST."""
        metrics = self._metrics
        metrics.outbox_sends.labels(channel, "sent").inc()
        if pickup is not None:
            metrics.outbox_pickup_latency.labels().observe(pickup)
        if not dry_run:
            metrics.outbox_send_duration.labels().observe(took)
        self._log.info(
            "OUTBOX_MESSAGE_SENT",
            channel=channel,
            message_id=message_id,
            correlation_id=correlation_id,
            attempt=attempt,
            took=round(took, 6),
            pickup=None if pickup is None else round(pickup, 6),
            dry_run=dry_run,
            msg="Meta accepted the message",
        )

    def retry_scheduled(
        self,
        *,
        channel: str,
        message_id: int,
        correlation_id: str | None,
        attempt: int,
        error_class: str,
        error_code: int | None,
        delay: float,
    ) -> None:
        """`delay`: until the next try. A throttle is no fault, and is counted apart."""
        throttled = error_class.startswith("THROTTLE")
        self._metrics.outbox_sends.labels(channel, "throttled" if throttled else "retry").inc()
        log = self._log.info if throttled else self._log.warning
        log(
            "OUTBOX_RETRY_SCHEDULED",
            channel=channel,
            message_id=message_id,
            correlation_id=correlation_id,
            attempt=attempt,
            error_class=error_class,
            error_code=error_code,
            delay=round(delay, 3),
            msg="The message will be tried again",
        )

    def failed_permanently(
        self,
        *,
        channel: str,
        message_id: int,
        correlation_id: str | None,
        attempt: int,
        error_class: str,
        error_code: int | None,
        reason: str,
    ) -> None:
        self._metrics.outbox_sends.labels(channel, "failed").inc()
        self._log.warning(
            "OUTBOX_FAILED_PERMANENTLY",
            channel=channel,
            message_id=message_id,
            correlation_id=correlation_id,
            attempt=attempt,
            error_class=error_class,
            error_code=error_code,
            reason=reason,
            msg="The message will not be tried again",
        )

    def unconfirmed(
        self,
        *,
        channel: str,
        message_id: int,
        correlation_id: str | None,
        attempt: int,
        reason: str,
    ) -> None:
        self._metrics.outbox_sends.labels(channel, "unconfirmed").inc()
        self._log.warning(
            "OUTBOX_UNCONFIRMED",
            channel=channel,
            message_id=message_id,
            correlation_id=correlation_id,
            attempt=attempt,
            reason=reason,
            msg="Nobody knows whether Meta took the message; its status will tell",
        )

    def unconfirmed_resolved(self, *, resolution: Resolution, count: int) -> None:
        self._metrics.outbox_unconfirmed.labels(closed(resolution, RESOLUTIONS)).inc(count)
        self._log.info(
            "OUTBOX_UNCONFIRMED_RESOLVED",
            resolution=resolution,
            count=count,
            msg="Messages of unknown outcome were resolved",
        )

    def lease_expired(self, *, channel: str, count: int) -> None:
        self._metrics.outbox_leases_expired.labels(channel).inc(count)
        self._log.warning(
            "OUTBOX_LEASE_EXPIRED",
            channel=channel,
            count=count,
            msg="A sender vanished with messages in hand",
        )

    def settled_stale(self, *, channel: str, count: int) -> None:
        """Tell of outcomes that came after the row had moved on; nothing was changed by them."""
        self._log.info(
            "OUTBOX_SETTLED_STALE",
            channel=channel,
            count=count,
            msg="Outcomes of attempts that are over were put aside",
        )

    def channel_unknown(self, *, count: int) -> None:
        self._log.warning(
            "OUTBOX_CHANNEL_UNKNOWN",
            count=count,
            msg="Messages failed: their channel is in no row of waemitter.channels",
        )

    def slot_missed(self, *, channel: str, count: int) -> None:
        """Tell of rows given back unstarted: their slot had passed, or a stop was requested."""
        self._metrics.outbox_sends.labels(channel, "released").inc(count)
        self._log.info(
            "OUTBOX_SLOT_MISSED",
            channel=channel,
            count=count,
            msg="Messages were given back unstarted; no attempt was spent",
        )

    def channel_paused(self, *, channel: str, reason: str) -> None:
        """`reason`: `operator` or an error class; a free text is counted as `other`."""
        self._metrics.pause(channel, _pause_reason(reason))
        self._log.warning("CHANNEL_PAUSED", channel=channel, reason=reason, msg="Sending paused")

    def channel_resumed(self, *, channel: str) -> None:
        self._metrics.pause(channel, None)
        self._log.info("CHANNEL_RESUMED", channel=channel, msg="Sending resumed")

    def webhook_verified(self, *, source: str = "whatsapp") -> None:
        self._count_request(source, "verified")
        self._log.info("WEBHOOK_VERIFIED", source=source, msg="Meta verified the endpoint")

    def webhook_accepted(self, *, source: str, bytes: int, took: float) -> None:  # noqa: A002  a size in bytes is called that
        """`bytes`: the body's size; `took`: from the request's headers until it was stored."""
        self._count_request(source, "accepted")
        self._metrics.webhook_request_duration.labels().observe(took)
        self._log.info(
            "WEBHOOK_ACCEPTED",
            source=source,
            bytes=bytes,
            took=round(took, 6),
            msg="A webhook was stored and acknowledged",
        )

    def webhook_rejected(self, *, source: str, reason: Rejection, error: str | None = None) -> None:
        """`error`: the class of the exception behind it; its text might quote the body."""
        self._count_request(source, reason)
        self._log.warning(
            "WEBHOOK_REJECTED", source=source, reason=reason, error=error, msg=_REJECTED[reason]
        )

    def webhook_processed(
        self,
        *,
        count: int,
        took: float,
        kinds: Mapping[EventKind, int] = _NOTHING,
        source: str = "whatsapp",
    ) -> None:
        """`count`: stored webhooks worked off; `kinds`: the items found in them."""
        for kind, items in kinds.items():
            self._metrics.webhook_events.labels(_source(source), closed(kind, EVENT_KINDS)).inc(
                items
            )
        self._log.info(
            "WEBHOOK_PROCESSED",
            source=source,
            count=count,
            took=round(took, 6),
            msg="Webhooks were worked off",
        )

    def webhook_malformed(self, *, reason: str, source: str = "whatsapp") -> None:
        """Tell of one item that could not be read; `reason` never quotes it."""
        self._metrics.webhook_events.labels(_source(source), "malformed").inc()
        self._log.warning(
            "WEBHOOK_MALFORMED",
            source=source,
            reason=reason,
            msg="An item of a webhook was not understood; its neighbours were",
        )

    def statuses_applied(self, counts: Mapping[tuple[str, StatusResult], int]) -> None:
        """Tell how many statuses came, by Meta's word and by what became of them."""
        results: dict[str, int] = {}
        for (status, result), count in counts.items():
            self._metrics.status_updates.labels(
                closed(status, STATUSES), closed(result, STATUS_RESULTS)
            ).inc(count)
            results[result] = results.get(result, 0) + count
        self._log.debug("STATUSES_APPLIED", **results, msg="Delivery statuses were applied")

    def request_failed(self, *, route: str, error: str, where: str) -> None:
        """`error`: the exception's class; `where`: the line that raised it."""
        self._log.error(
            "HTTP_REQUEST_FAILED",
            route=route,
            error=error,
            where=where,
            msg="A request was answered with 500; this is a bug",
        )

    def _count_request(self, source: str, result: str) -> None:
        self._metrics.webhook_requests.labels(
            _source(source), closed(result, WEBHOOK_RESULTS)
        ).inc()


def _source(source: str) -> str:
    return closed(source, SOURCES)


def _pause_reason(reason: str) -> str:
    """The class alone: what stands behind a colon is for people."""
    return closed(reason.partition(":")[0].strip().lower(), PAUSE_REASONS)
