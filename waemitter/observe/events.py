"""What happens, as typed calls: each one logs a line and counts it, so neither can be forgotten.

Arguments are ids, counts, seconds and words; a phone number or a body has no parameter to come in
by. Routine is `debug`, what happened to a message `info`, what an operator may want to look into
`warning`, what he must look into `error`. The sentences are constant: a line's facts are its keys.
"""

from __future__ import annotations

import logging
import platform
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final, Literal, NamedTuple, TypeAlias

from structlog.typing import FilteringBoundLogger

from waemitter.observe.agent_events import AgentEvents
from waemitter.observe.alert_events import AlertEvents
from waemitter.observe.circuit_events import CircuitEvents
from waemitter.observe.database_events import DatabaseEvents
from waemitter.observe.desk_events import DeskEvents
from waemitter.observe.event_events import EventEvents
from waemitter.observe.field_events import FieldEvents
from waemitter.observe.job_events import JobEvents
from waemitter.observe.journal_events import JournalEvents
from waemitter.observe.metrics import (
    EVENT_KINDS,
    SOURCES,
    STATUS_RESULTS,
    STATUSES,
    WEBHOOK_RESULTS,
    Metrics,
    closed,
)
from waemitter.observe.outbox_events import OutboxEvents
from waemitter.observe.turn_events import TurnEvents

EventKind: TypeAlias = Literal[
    "message", "status", "error", "change", "duplicate", "unknown_number", "other"
]
StatusResult: TypeAlias = Literal["applied", "stale", "parked", "unknown"]

Rejection: TypeAlias = Literal[
    "handshake_refused",
    "no_verify_token",
    "no_secret",
    "missing_signature",
    "bad_signature",
    "too_large",
    "too_slow",
    "disconnected",
    "overloaded",
    "not_json",
    "journal_unavailable",
]

LAGGING: Final = 0.1
"""Seconds of event loop lag above which it is a warning: rate limit slots are missed from here."""

_REJECTED: Final[Mapping[Rejection, str]] = {
    "handshake_refused": "A webhook verification without the right verify token was refused",
    "no_verify_token": "A webhook verification was refused: set WHATSAPP_VERIFY_TOKEN",
    "no_secret": "A webhook was refused: set WHATSAPP_APP_SECRET to the app's secret",
    "missing_signature": "A webhook without a signature was refused",
    "bad_signature": "A webhook was refused: its signature matches no app secret",
    "too_large": "A webhook larger than Meta ever sends was refused",
    "too_slow": "A webhook was refused: its body did not arrive in time",
    "disconnected": "A webhook's sender hung up before the body was there",
    "overloaded": "A webhook was put off: too many bodies are arriving at once",
    "not_json": "A signed webhook is not a JSON object",
    "journal_unavailable": "A webhook could not be stored; its sender was asked to try again",
}


class Accepted(NamedTuple):
    """A webhook that was stored: the size of its body in bytes, and the seconds from its headers until then."""

    bytes: int
    took: float
    correlation_id: str


class Events(
    OutboxEvents,
    FieldEvents,
    JournalEvents,
    CircuitEvents,
    AgentEvents,
    JobEvents,
    TurnEvents,
    EventEvents,
    AlertEvents,
    DatabaseEvents,
    DeskEvents,
):
    """The only caller of the log and of the metrics. Durations are in seconds."""

    def __init__(self, metrics: Metrics, logger: FilteringBoundLogger) -> None:
        super().__init__(metrics, logger)
        self.database_away = False

    def daemon_started(
        self,
        *,
        address: str,
        version: str,
        channels: Sequence[str],
        admin_address: str | None = None,
        agents: Mapping[str, Sequence[str]] = MappingProxyType({}),
        sources: Sequence[str] = (),
    ) -> None:
        """`admin_address`: where everything but webhooks and liveness is served, if apart.

        `agents`: each with its tools; `sources` of webhooks, beside WhatsApp.
        """
        self._metrics.build_info.labels(version, platform.python_version()).set(1)
        for channel in channels:
            self._metrics.for_channel(channel)
        for agent, tools in agents.items():
            self._metrics.for_agent(agent, tools)
        for source in sources:
            self._metrics.for_source(_source(source))
        self._log.info(
            "DAEMON_STARTED",
            address=address,
            admin_address=admin_address,
            version=version,
            channels=list(channels),
            msg="Started",
        )

    def daemon_ready(self, *, took: float, promised: float) -> None:
        log = self._log.info if took <= promised else self._log.warning
        log(
            "DAEMON_READY",
            took=round(took, 3),
            promised=promised,
            msg="Ready: everything is connected",
        )

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

    def loops_stalled(self, *, loops: Sequence[str]) -> None:
        """`loops`: by the kind of their work. systemd's watchdog gets no sign of life meanwhile."""
        self._log.error(
            "LOOP_STALLED", loops=list(loops), msg="A loop has not come back when it said it would"
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

    def webhook_verified(self, *, source: str = "whatsapp") -> None:
        self._count_request(source, "verified")
        self._log.info("WEBHOOK_VERIFIED", source=source, msg="Meta verified the endpoint")

    def webhook_accepted(
        self,
        *,
        source: str,
        bytes: int,  # noqa: A002  a size in bytes is called that
        took: float,
        correlation_id: str | None = None,
    ) -> None:
        """`bytes`: the body's size; `took`: from the request's headers until it was stored."""
        self._count_accepted(source, (took,))
        self._log.info(
            "WEBHOOK_ACCEPTED",
            source=source,
            correlation_id=correlation_id,
            bytes=bytes,
            took=round(took, 6),
            msg="A webhook was stored and acknowledged",
        )

    def webhooks_accepted(self, accepted: Sequence[Accepted], *, source: str) -> None:
        """Several that one commit let go, in one line: all their bytes, and the longest wait."""
        waits = [each.took for each in accepted]
        self._count_accepted(source, waits)
        self._log.info(
            "WEBHOOK_ACCEPTED",
            source=source,
            count=len(accepted),
            correlation_ids=[each.correlation_id for each in accepted],
            bytes=sum([each.bytes for each in accepted]),
            took=round(max(waits), 6),
            msg="Webhooks were stored and acknowledged",
        )

    def _count_accepted(self, source: str, waits: Sequence[float]) -> None:
        self._count_request(source, "accepted", len(waits))
        duration = self._metrics.webhook_request_duration.labels()
        for took in waits:
            duration.observe(took)

    def webhook_rejected(self, *, source: str, reason: Rejection, error: str | None = None) -> None:
        """`error`: the class of the exception behind it; its text might quote the body."""
        self._count_request(source, reason)
        self._log.warning(
            "WEBHOOK_REJECTED", source=source, reason=reason, error=error, msg=_REJECTED[reason]
        )

    def items_handled(self, *, kinds: Mapping[EventKind, int], source: str = "whatsapp") -> None:
        """Tell of webhooks' items by kind; the duplicates in a line."""
        for kind, items in kinds.items():
            self._metrics.webhook_events.labels(_source(source), closed(kind, EVENT_KINDS)).inc(
                items
            )
        if count := kinds.get("duplicate"):
            self._log.info(
                "WEBHOOK_DUPLICATE",
                source=source,
                count=count,
                msg="Items of webhooks came once more; they were handled before",
            )

    def number_unknown(self, *, count: int, source: str = "whatsapp") -> None:
        """`count`: messages."""
        self._log.warning(
            "WEBHOOK_NUMBER_UNKNOWN",
            source=source,
            count=count,
            msg="Messages came for a number of no channel; they are in the journal",
        )

    def webhook_item_failed(self, *, error: str, source: str = "whatsapp") -> None:
        """Tell of one item that could not be handled; `error`: the exception's class."""
        self._metrics.webhook_events.labels(_source(source), "failed").inc()
        self._log.error(
            "WEBHOOK_ITEM_FAILED",
            source=source,
            error=error,
            msg="An item of a webhook could not be handled and was put aside; its neighbours were",
        )

    def webhook_processed(self, *, count: int, took: float, source: str = "whatsapp") -> None:
        """`count`: stored webhooks worked off."""
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

    def status_heard(
        self,
        *,
        status: str,
        message_id: int | None,
        correlation_id: str | None,
        error_code: int | None,
    ) -> None:
        """Tell of one status as it came; the ids are those that Meta echoes, so without a look-up."""
        if error_code is None and not self._log.is_enabled_for(logging.DEBUG):
            return  # to put together what nobody reads costs, too: there are three for each message
        log = self._log.warning if error_code is not None else self._log.debug
        log(
            "STATUS_HEARD",
            status=closed(status, STATUSES),
            message_id=message_id,
            correlation_id=correlation_id,
            error_code=error_code,
            msg="Meta told what became of a message",
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

    def _count_request(self, source: str, result: str, count: int = 1) -> None:
        self._metrics.webhook_requests.labels(_source(source), closed(result, WEBHOOK_RESULTS)).inc(
            count
        )


def _source(source: str) -> str:
    return closed(source, SOURCES)
