"""Settings of the daemon as an operator sees it: HTTP, logging, retention, promises and alerts."""

from __future__ import annotations

from datetime import time
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import BeforeValidator

from waemitter.settings.durations import Duration
from waemitter.settings.metadata import Group, setting
from waemitter.settings.values import ApiKeys, SecretUrl, TimeOfDay, Token, Url, lowered

_DAY: Final = 86_400.0

Level = Annotated[
    Literal["debug", "info", "warning", "error", "critical"], BeforeValidator(lowered)
]
Format = Annotated[Literal["auto", "json", "console"], BeforeValidator(lowered)]


class HttpSettings(Group):
    host: str = setting(
        "127.0.0.1", "The address to listen on; `0.0.0.0` is every interface.", min_length=1
    )
    port: int = setting(8080, "The port to listen on; 0 lets the system choose.", ge=0, le=65_535)
    admin_port: int | None = setting(
        None,
        "When set, everything but webhooks and liveness is served on this port alone.",
        ge=0,
        le=65_535,
    )
    tls_cert: Path | None = setting(
        None, "A certificate chain in PEM, for who has no proxy in front."
    )
    tls_key: Path | None = setting(None, "The certificate's key, in PEM.")
    api_keys: ApiKeys = setting(
        (),
        "The API's bearer secrets, `secret=scope+scope,…`, the scopes among `trigger`, `send`, "
        "`campaigns`, `jobs`, `read` and `admin`; without any it answers on loopback only.",
        old={
            "WORKER_SECRET": "=trigger+jobs",
            "WEBHOOK_SECRET": "=trigger+jobs",
            "CRON_SECRET": "=trigger+jobs",
            "SUPABASE_SERVICE_ROLE_KEY": "=trigger+jobs+admin",
        },
        secret=True,
    )
    read_only: bool = setting(
        False,  # noqa: FBT003 a default
        "Nobody changes anything over HTTP, whatever key he has: dashboard and API only show; webhooks come in as ever.",
    )
    rate_limit: float = setting(
        500.0,
        "Requests a second that one caller of the API may make; 0 is no limit.",
        ge=0,
        allow_inf_nan=False,
    )


class LoggingSettings(Group):
    level: Level = setting("info", "The least that is logged.")
    format: Format = setting(
        "auto", "`json` or `console`; `auto` is `console` on a terminal and `json` elsewhere."
    )


class RetentionSettings(Group):
    dead_letters: Duration = setting(
        7 * _DAY, "How long resolved, abandoned and discarded dead letters are kept.", gt=0
    )
    buffers: Duration = setting(30 * _DAY, "How long closed windows are kept.", gt=0)
    job_runs: Duration = setting(7 * _DAY, "How long the history of jobs is kept.", gt=0)
    webhook_logs: Duration = setting(30 * _DAY, "How long the journal of webhooks is kept.", gt=0)
    webhook_bodies: Duration | None = setting(
        None,
        "After what time the journal forgets what webhooks said, and only keeps that they came; unless set, with their rows. "
        "What is forgotten cannot be replayed.",
        gt=0,
    )
    outbox: Duration = setting(
        90 * _DAY, "How long messages are kept after they reached their end.", gt=0
    )
    inbound: Duration = setting(
        90 * _DAY,
        "How long customers' messages, and what conversations went through, are kept.",
        gt=0,
    )
    agents: Duration = setting(
        90 * _DAY, "How long what agents remember of a contact, and their accounts, are kept.", gt=0
    )
    audit: Duration = setting(
        365 * _DAY, "How long the audit of what was done by hand is kept.", gt=0
    )
    events: Duration = setting(
        3 * _DAY, "How long events for other systems are kept, delivered or not.", gt=0
    )
    cleanup_at: TimeOfDay = setting(
        time(2), "When the day's cleanup runs, in UTC.", old={"WAEMITTER_CLEANUP_AT": ""}
    )


class SloSettings(Group):
    p95: Duration = setting(
        1.2,
        "The time within which 95 of 100 webhooks are answered; slower for a quarter of an hour is an alert.",
        old={"WA_CORE_P95_SLO_MS": "ms"},
        gt=0,
    )
    cold_start: Duration = setting(
        1.75,
        "The time from start to ready; a slower start is logged as a warning.",
        old={"WA_CORE_COLD_START_SLO_MS": "ms"},
        gt=0,
    )


class AlertsSettings(Group):
    webhook_url: SecretUrl | None = setting(
        None, "Where alerts are posted to, as Alertmanager posts them.", secret=True
    )
    webhook_token: Token | None = setting(
        None, "The bearer that goes with them, if the receiver asks for one.", secret=True
    )
    external_url: Url | None = setting(
        None, "The address at which operators find the dashboard; named in each alert."
    )
    interval: Duration = setting(
        30.0,
        "How often it is looked whether something is wrong; what is not seen four times is over.",
        ge=1,
    )
    repeat: Duration = setting(
        14_400.0, "How long after it was told an alert that goes on is told again.", gt=0
    )
    stuck: int = setting(5, "Alert when more conversations than this are stuck.", ge=0)
    dead_letters: int = setting(10, "Alert when more dead letters than this are pending.", ge=0)
    p95: Duration = setting(2.0, "Alert when the 95th percentile of webhooks is slower.", gt=0)
    oldest_due: Duration = setting(
        300.0, "Alert when a due message has waited longer than this.", gt=0
    )
    failure_ratio: float = setting(
        0.05, "Alert when a larger share of a channel's sends fails for good.", ge=0, le=1
    )
