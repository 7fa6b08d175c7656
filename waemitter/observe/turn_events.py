"""What happens between a customer's message and the replies in the outbox."""

from __future__ import annotations

from collections.abc import Mapping

from structlog.typing import FilteringBoundLogger

from waemitter.observe.metrics import (
    BUFFER_STATUSES,
    FLUSH_REASONS,
    TURN_OUTCOMES,
    UNROUTED,
    Metrics,
    closed,
)


class TurnEvents:
    """A part of `Events`. A route's name is the operator's own; nothing that a customer said has a parameter."""

    _metrics: Metrics
    _log: FilteringBoundLogger

    def buffer_opened(self, *, buffer_id: int, conversation_id: int) -> None:
        self._log.debug(
            "BUFFER_OPENED",
            buffer_id=buffer_id,
            conversation_id=conversation_id,
            msg="A customer wrote: a window is open",
        )

    def messages_rate_limited(self, *, count: int) -> None:
        """`count`: messages that are kept, and that nobody answers."""
        self._metrics.turns.labels(UNROUTED, "rate_limited").inc(count)
        self._log.warning(
            "MESSAGES_RATE_LIMITED",
            count=count,
            msg="A contact writes faster than is answered; the messages are kept",
        )

    def buffers_sampled(self, buffers: Mapping[str, int], *, stuck: int) -> None:
        """`buffers`: by status, those that have not ended well; `stuck`: conversations that nobody goes on with."""
        for status in BUFFER_STATUSES:
            self._metrics.buffers.labels(status).set(buffers.get(status, 0))
        self._metrics.conversations_stuck.labels().set(stuck)
        self._log.debug("BUFFERS_SAMPLED", **buffers, msg="What waits, and what failed")

    def buffer_flushed(
        self,
        *,
        turn_id: int,
        conversation_id: int,
        reason: str,
        messages: int,
        late: float,
        correlation_id: str,
    ) -> None:
        """`late`: seconds from the window's end to the claim."""
        self._metrics.buffer_flushes.labels(closed(reason, FLUSH_REASONS)).inc()
        self._log.info(
            "BUFFER_FLUSHED",
            turn_id=turn_id,
            conversation_id=conversation_id,
            reason=reason,
            messages=messages,
            late=round(late, 3),
            correlation_id=correlation_id,
            msg="A window has closed: a turn begins",
        )

    def route_decided(self, *, turn_id: int, route: str, reason: str, correlation_id: str) -> None:
        """`reason`: the router's words, which never quote the customer."""
        self._log.info(
            "ROUTE_DECIDED",
            turn_id=turn_id,
            route=route,
            reason=reason,
            correlation_id=correlation_id,
            msg="A turn has its route",
        )

    def typing_refused(self, *, status: int | None) -> None:
        """`status`: Meta's HTTP status, None without an answer."""
        self._log.debug(
            "TYPING_REFUSED",
            status=status,
            msg="A customer was not shown that an answer is on its way",
        )

    def turn_ended(
        self,
        *,
        turn_id: int,
        route: str,
        outcome: str,
        attempt: int,
        took: float,
        correlation_id: str,
    ) -> None:
        """`took`: seconds from the claim to the commit."""
        self._count(route, outcome, took)
        log = self._log.warning if outcome == "lost" else self._log.info
        log(
            "TURN_ENDED",
            turn_id=turn_id,
            route=route,
            outcome=outcome,
            attempt=attempt,
            took=round(took, 6),
            correlation_id=correlation_id,
            msg="A turn is over",
        )

    def turn_retried(
        self,
        *,
        turn_id: int,
        route: str,
        stage: str,
        error: str,
        attempt: int,
        delay: float,
        correlation_id: str,
    ) -> None:
        """`error`: the class of the exception; its words may quote what was said. `delay` in seconds."""
        self._metrics.turns.labels(route, "retry").inc()
        self._log.warning(
            "TURN_RETRY_SCHEDULED",
            turn_id=turn_id,
            route=route,
            stage=stage,
            error=error,
            attempt=attempt,
            delay=round(delay, 3),
            correlation_id=correlation_id,
            msg="A turn has no answer yet, and is tried again",
        )

    def turn_failed(
        self,
        *,
        turn_id: int,
        route: str,
        stage: str,
        error: str,
        letter_id: int,
        took: float,
        correlation_id: str,
    ) -> None:
        """`error`: the class of the exception; the dead letter has its words."""
        self._count(route, "failed", took)
        self._log.error(
            "TURN_FAILED",
            turn_id=turn_id,
            route=route,
            stage=stage,
            error=error,
            dead_letter_id=letter_id,
            correlation_id=correlation_id,
            msg="A turn has no answer: it is a dead letter",
        )

    def _count(self, route: str, outcome: str, took: float) -> None:
        self._metrics.turns.labels(route, closed(outcome, TURN_OUTCOMES)).inc()
        self._metrics.turn_duration.labels().observe(took)
