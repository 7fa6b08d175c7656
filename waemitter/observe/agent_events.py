"""What happens when a model is asked for an answer. Prompts and replies have no parameter to come in by."""

from __future__ import annotations

from structlog.typing import FilteringBoundLogger

from waemitter.observe.metrics import AGENT_OUTCOMES, REVIEWS, TOOL_OUTCOMES, Metrics, closed


class AgentEvents:
    """A part of `Events`."""

    _metrics: Metrics
    _log: FilteringBoundLogger

    def agent_called(
        self, *, agent: str, outcome: str, took: float, input_tokens: int, output_tokens: int
    ) -> None:
        """One request to a model, or one that an open circuit spared it."""
        metrics = self._metrics
        metrics.agent_requests.labels(agent, closed(outcome, AGENT_OUTCOMES)).inc()
        metrics.agent_tokens.labels(agent, "input").inc(input_tokens)
        metrics.agent_tokens.labels(agent, "output").inc(output_tokens)
        self._log.debug(
            "AGENT_CALLED",
            agent=agent,
            outcome=outcome,
            took=round(took, 3),
            input_count=input_tokens,
            output_count=output_tokens,
            msg="A model was asked",
        )

    def agent_retried(self, *, agent: str, fault: str, reason: str, delay: float) -> None:
        self._log.warning(
            "AGENT_RETRIED",
            agent=agent,
            fault=fault,
            reason=reason,
            delay=round(delay, 3),
            msg="A model did not answer and is asked again",
        )

    def agent_tool_called(self, *, agent: str, tool: str, outcome: str, took: float) -> None:
        """`tool`: one of the settings', or `unknown`."""
        self._metrics.agent_tool_calls.labels(agent, tool, closed(outcome, TOOL_OUTCOMES)).inc()
        tell = self._log.info if outcome == "ok" else self._log.warning
        tell(
            "AGENT_TOOL_CALLED",
            agent=agent,
            tool=tool,
            outcome=outcome,
            took=round(took, 3),
            msg="A model asked a tool",
        )

    def agent_reviewed(self, *, agent: str, result: str, took: float) -> None:
        """`result`: kept, rewritten, rejected; skipped when nobody could look at the draft."""
        self._metrics.agent_reviews.labels(agent, closed(result, REVIEWS)).inc()
        self._log.info(
            "AGENT_DRAFT_REVIEWED",
            agent=agent,
            result=result,
            took=round(took, 3),
            msg="A draft was looked at before it was sent",
        )

    def agent_answered(
        self, *, agent: str, conversation_id: int, variant: str, took: float, dropped: int
    ) -> None:
        """`dropped`: the oldest exchanges that did not fit into the context."""
        self._log.info(
            "AGENT_ANSWERED",
            agent=agent,
            conversation_id=conversation_id,
            variant=variant,
            took=round(took, 3),
            dropped=dropped,
            msg="An agent answered",
        )

    def agent_unanswered(
        self, *, agent: str, conversation_id: int, failure: str, reason: str, instead: str
    ) -> None:
        """`instead`: text, handover, or none: then the turn is tried again, or a dead letter."""
        self._log.warning(
            "AGENT_UNANSWERED",
            agent=agent,
            conversation_id=conversation_id,
            failure=failure,
            reason=reason,
            instead=instead,
            msg="An agent has no answer",
        )

    def agent_over_budget(self, *, agent: str, conversation_id: int, budget: str) -> None:
        """`budget`: day or contact. No model was asked."""
        self._metrics.agent_requests.labels(agent, "over_budget").inc()
        self._log.warning(
            "AGENT_OVER_BUDGET",
            agent=agent,
            conversation_id=conversation_id,
            budget=budget,
            msg="An agent's budget is spent: the customer was told so",
        )
