"""The handler `chatwoot`: people answer, in a conversation of Chatwoot.

What the customer wrote goes there through the outbox, as rows of the channel that is the inbox; what an agent answers comes by
webhook.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from typing_extensions import override

from waemitter.chatwoot import FROM_CUSTOMER
from waemitter.turns.turn import Answer, Handler, Turn


def forwards(channel: str, messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Meta's message objects as rows for Chatwoot: their type, its part, and whose they are."""
    return [
        {
            "type": kind,
            **({kind: part} if (part := message.get(kind)) is not None else {}),
            FROM_CUSTOMER: {"channel": channel, "id": message.get("id")},
        }
        for message in messages
        for kind in (_kind(message),)
    ]


def _kind(message: Mapping[str, Any]) -> str:
    kind = message.get("type")
    return kind[:64] if isinstance(kind, str) and kind else "unknown"


class Chatwoot(Handler):
    """Puts a turn before the people of one inbox."""

    def __init__(self, channel: str) -> None:
        """`channel`: of the kind `chatwoot`."""
        self._channel = channel

    @override
    async def handle(self, turn: Turn) -> Answer:
        return Answer(desk=self._channel)
