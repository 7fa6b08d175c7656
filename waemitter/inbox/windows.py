"""When a customer's burst is complete: the rules of windows, pure.

A window gathers the messages of one conversation until it closes, and becomes one turn. Whatever its mode, it closes at once
when it is full, and when it has been open for too long.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol, TypeAlias

Mode: TypeAlias = Literal["fixed", "sliding", "off"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """How long to wait for more. `duration` and `max_age` in seconds, `max_size` in messages.

    `fixed` counts the duration from the first message, `sliding` from the last one; `off` waits for nothing.
    """

    mode: Mode = "fixed"
    duration: float = 30.0
    max_size: int = 50
    max_age: float = 300.0


OFF: Final = Window(mode="off")


class Windows(Protocol):
    """Who knows the window of a message: the routes do."""

    def window(
        self, *, channel: str, message: Mapping[str, Any], active_service: str | None
    ) -> Window:
        """`message`: Meta's object; `active_service`: of the contact's session."""
        ...


SILENT: Final = frozenset({"system", "request_welcome", "reaction", "edit", "revoke"})
"""Types of messages that ask for no answer: they are kept, and open no window."""


def gathers(message: Mapping[str, Any]) -> bool:
    """Whether the message is for a turn. What is said in a group is not: a turn answers one person."""
    return message.get("type") not in SILENT and not message.get("group_id")


def complete(message: Mapping[str, Any]) -> bool:
    """Whether nothing more is to be expected: a button was tapped, a row of a list chosen, a form sent."""
    interactive = message.get("interactive")
    return message.get("type") == "button" or (
        isinstance(interactive, Mapping)
        and not {"button_reply", "list_reply", "nfm_reply"}.isdisjoint(interactive)
    )
