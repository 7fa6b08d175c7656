"""What is told to systems elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from structlog.typing import FilteringBoundLogger

from waemitter.observe.metrics import DELIVERY_OUTCOMES, Metrics, closed

_WORDS: Final[Mapping[str, str]] = {
    "operator": "A subscription is disabled by an operator",
    "failing": "A subscription failed for so long that it was disabled: mend it, then waemitter events enable",
    "gone": "A subscription was disabled: its receiver answered 410",
}


class EventEvents:
    """A part of `Events`."""

    _metrics: Metrics
    _log: FilteringBoundLogger

    def subscription_served(
        self, *, subscription: str, kind: str, types: Sequence[str], changed: bool
    ) -> None:
        """At the start; `changed`: the settings differ from what the database had."""
        self._metrics.for_subscription(subscription)
        log = self._log.info if changed else self._log.debug
        log(
            "EVENT_SUBSCRIPTION_SERVED",
            subscription=subscription,
            kind=kind,
            types=list(types),
            msg="Events are delivered to a subscription of the settings",
        )

    def subscriptions_orphaned(self, *, subscriptions: Sequence[str]) -> None:
        self._log.warning(
            "EVENT_SUBSCRIPTION_ORPHANED",
            subscriptions=list(subscriptions),
            msg="Events are kept for subscriptions that these settings do not have: waemitter events forget ends that",
        )

    def subscription_disabled(self, *, subscription: str, reason: str) -> None:
        """`reason`: operator, failing or gone."""
        self._log.error(
            "EVENT_SUBSCRIPTION_DISABLED",
            subscription=subscription,
            reason=reason,
            msg=_WORDS.get(reason, _WORDS["operator"]),
        )

    def event_delivered(
        self, *, subscription: str, event_id: str, event_type: str, attempt: int, age: float
    ) -> None:
        """`age`: seconds since the change that it tells of."""
        self._metrics.event_deliveries.labels(subscription, "delivered").inc()
        self._metrics.event_delivery_latency.labels().observe(age)
        self._log.debug(
            "EVENT_DELIVERED",
            subscription=subscription,
            event_id=event_id,
            event_type=event_type,
            attempt=attempt,
            age=round(age, 6),
            msg="An event was delivered",
        )

    def event_not_delivered(
        self,
        *,
        subscription: str,
        event_id: str,
        event_type: str,
        attempt: int,
        outcome: str,
        trouble: str | None,
    ) -> None:
        """`outcome`: failed, refused, hopeless or gone; `trouble`: in words of ours."""
        self._metrics.event_deliveries.labels(
            subscription, closed(outcome, DELIVERY_OUTCOMES)
        ).inc()
        self._log.warning(
            "EVENT_NOT_DELIVERED",
            subscription=subscription,
            event_id=event_id,
            event_type=event_type,
            attempt=attempt,
            outcome=outcome,
            trouble=trouble,
            msg="An event was not delivered; unless it is hopeless it is tried again",
        )

    def events_given_up(self, *, subscription: str, count: int) -> None:
        self._log.error(
            "EVENT_GIVEN_UP",
            subscription=subscription,
            count=count,
            msg="Events are not tried again; waemitter events redeliver does it",
        )
