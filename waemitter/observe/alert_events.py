"""What somebody is told of."""

from __future__ import annotations

from collections.abc import Mapping

from structlog.typing import FilteringBoundLogger

from waemitter.observe.metrics import Metrics


class AlertEvents:
    """A part of `Events`. `labels`: of the alert, as Prometheus would have them: a channel, a job, a daemon."""

    _metrics: Metrics
    _log: FilteringBoundLogger

    def alert_fired(self, *, alert: str, severity: str, labels: Mapping[str, str]) -> None:
        self._log.warning(
            "ALERT_FIRED",
            alert=alert,
            severity=severity,
            labels=dict(labels),
            msg="Something is wrong; waemitter.alerts says what to do about it",
        )

    def alert_resolved(self, *, alert: str, labels: Mapping[str, str]) -> None:
        self._log.info(
            "ALERT_RESOLVED", alert=alert, labels=dict(labels), msg="What was wrong is over"
        )

    def alerts_sent(self, *, count: int) -> None:
        self._metrics.alert_notifications.labels("sent").inc(count)
        self._log.debug("ALERTS_SENT", count=count, msg="Whoever is to hear of alerts was told")

    def alert_not_sent(self, *, alert: str, reason: str) -> None:
        """`reason`: a status or an exception's class; never the address, which may hold a secret."""
        self._metrics.alert_notifications.labels("failed").inc()
        self._log.error(
            "ALERT_NOT_SENT",
            alert=alert,
            reason=reason,
            msg="An alert did not reach WAEMITTER_ALERTS__WEBHOOK_URL; it is sent again",
        )
