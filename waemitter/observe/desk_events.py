"""What people do in Chatwoot."""

from __future__ import annotations

from structlog.typing import FilteringBoundLogger


class DeskEvents:
    """A part of `Events`. What was said has no parameter."""

    _log: FilteringBoundLogger

    def desk_answered(self, *, channel: str, conversation_id: int, messages: int) -> None:
        """`messages`: rows of the outbox; 0 where Chatwoot delivers itself."""
        self._log.info(
            "CHATWOOT_AGENT_WROTE",
            channel=channel,
            conversation_id=conversation_id,
            messages=messages,
            msg="An agent answered in Chatwoot: the conversation is his for now",
        )

    def desk_moved(self, *, channel: str, human: bool) -> None:
        """`human`: somebody was assigned; else it was resolved, or nobody is any more."""
        if human:
            self._log.info(
                "HUMAN_TAKEOVER_STARTED",
                channel=channel,
                msg="An agent is assigned in Chatwoot: the bot is silent",
            )
        else:
            self._log.info(
                "HUMAN_TAKEOVER_ENDED",
                channel=channel,
                msg="Nobody has the conversation in Chatwoot any more: the bot answers again",
            )
