"""Alerts as Alertmanager posts them to a webhook (version 4), so that whatever hears Alertmanager hears us. Pure.

https://prometheus.io/docs/alerting/latest/configuration/#webhook_config
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

NEVER: Final = "0001-01-01T00:00:00Z"
"""Go's zero time: how Alertmanager says that an alert has not ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """`labels` without the name and the severity."""

    name: str
    labels: Mapping[str, str]
    severity: str
    summary: str
    action: str
    began_at: datetime
    ended_at: datetime | None


def body(name: str, alerts: Sequence[Alert], *, external_url: str) -> dict[str, Any]:
    """All alerts of one name, as one group."""
    told = [_told(alert, external_url) for alert in alerts]
    return {
        "version": "4",
        "groupKey": f'{{}}:{{alertname="{name}"}}',
        "truncatedAlerts": 0,
        "status": "firing" if any(alert.ended_at is None for alert in alerts) else "resolved",
        "receiver": "waemitter",
        "groupLabels": {"alertname": name},
        "commonLabels": _common([each["labels"] for each in told]),
        "commonAnnotations": _common([each["annotations"] for each in told]),
        "externalURL": external_url,
        "alerts": told,
    }


def _told(alert: Alert, external_url: str) -> dict[str, Any]:
    labels = {"alertname": alert.name, "severity": alert.severity, **alert.labels}
    return {
        "status": "firing" if alert.ended_at is None else "resolved",
        "labels": labels,
        "annotations": {"summary": alert.summary, "action": alert.action},
        "startsAt": _time(alert.began_at),
        "endsAt": NEVER if alert.ended_at is None else _time(alert.ended_at),
        "generatorURL": external_url,
        "fingerprint": fingerprint(labels),
    }


def fingerprint(labels: Mapping[str, str]) -> str:
    """The same for the same labels, for ever: by it a receiver knows an alert again."""
    text = "\n".join(f"{name}={value}" for name, value in sorted(labels.items()))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _common(several: Sequence[Mapping[str, str]]) -> dict[str, str]:
    first, *others = several
    return {
        name: value
        for name, value in first.items()
        if all(other.get(name) == value for other in others)
    }


def _time(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
