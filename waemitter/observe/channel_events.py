"""What happens to channels and templates: pauses, probes, holds."""

from __future__ import annotations

from math import isinf

from structlog.typing import FilteringBoundLogger

from waemitter.observe.metrics import PAUSE_REASONS, Metrics, closed

LASTING = 3600.0
"""Seconds from which a pause is an alert: Meta restricts the number, or somebody has to repair something."""


class ChannelEvents:
    """A part of `Events`."""

    _metrics: Metrics
    _log: FilteringBoundLogger

    def channel_paused(self, *, channel: str, reason: str, seconds: float) -> None:
        """`reason`: `operator` or an error class; a free text is counted as `other`. `seconds` may be infinite."""
        self._metrics.pause(channel, pause_reason(reason))
        log = self._log.error if seconds >= LASTING else self._log.warning
        log(
            "CHANNEL_PAUSED",
            channel=channel,
            reason=reason,
            seconds=None if isinf(seconds) else round(seconds, 3),
            msg="Sending paused",
        )

    def channel_probed(self, *, channel: str, sends: bool, detail: str) -> None:
        """`detail`: Meta's words about the number, the account and the app."""
        self._log.info(
            "CHANNEL_PROBED",
            channel=channel,
            sends=sends,
            detail=detail,
            msg="Meta was asked whether a paused channel may send",
        )

    def token_expires(self, *, channel: str, days: float) -> None:
        """`days` that are left."""
        self._log.warning(
            "CHANNEL_TOKEN_EXPIRES",
            channel=channel,
            days=round(days, 1),
            msg="The access token expires soon: make another one, and start the daemon with it",
        )

    def channel_resumed(self, *, channel: str) -> None:
        self._metrics.pause(channel, None)
        self._log.info("CHANNEL_RESUMED", channel=channel, msg="Sending resumed")

    def template_held(self, *, channel: str, template: str, reason: str) -> None:
        self._log.error(
            "TEMPLATE_HELD",
            channel=channel,
            template=template,
            reason=reason,
            msg="Meta refuses this template: its messages wait",
        )


def pause_reason(reason: str) -> str:
    """The class alone: what stands behind a colon is for people."""
    return closed(reason.partition(":")[0].strip().lower(), PAUSE_REASONS)
