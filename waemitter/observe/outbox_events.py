"""What happens to messages on their way out: the first half of `Events`, which says how it works."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeAlias

from structlog.typing import FilteringBoundLogger

from waemitter.observe.channel_events import ChannelEvents, pause_reason
from waemitter.observe.metrics import (
    DIRECTIONS,
    LETTER_STATUSES,
    MESSAGE_STATUSES,
    RESOLUTIONS,
    Metrics,
    closed,
)

Resolution: TypeAlias = Literal["confirmed", "failed", "resent", "held", "duplicate"]


class OutboxEvents(ChannelEvents):
    def __init__(self, metrics: Metrics, logger: FilteringBoundLogger) -> None:
        self._metrics = metrics
        self._log = logger.bind()

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
        metrics.pause(channel, paused and pause_reason(paused))
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
            msg="Dry run: nothing left" if dry_run else "Meta accepted the message",
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

    def delivery_failed(
        self,
        *,
        channel: str,
        message_id: int,
        correlation_id: str | None,
        attempt: int,
        error_class: str,
        error_code: int | None,
        delay: float | None,
    ) -> None:
        """`delay`: until the message is sent again; None when it never is. Counted as a status that was applied."""
        self._log.warning(
            "OUTBOX_DELIVERY_FAILED",
            channel=channel,
            message_id=message_id,
            correlation_id=correlation_id,
            attempt=attempt,
            error_class=error_class,
            error_code=error_code,
            delay=None if delay is None else round(delay, 3),
            msg="Meta accepted the message, and gave it up",
        )

    def letters_sampled(self, letters: Mapping[tuple[str, str], int]) -> None:
        """`letters`: how many there are, by direction and status."""
        for direction in DIRECTIONS:
            for status in LETTER_STATUSES:
                count = letters.get((direction, status), 0)
                self._metrics.dead_letters.labels(direction, status).set(count)
        self._log.debug(
            "DEAD_LETTERS_SAMPLED", count=sum(letters.values()), msg="The dead letters were counted"
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
