"""What a customer said, in words: the text of Meta's message objects, whatever their type."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

_WORDS: Final = {
    "text": "body",
    "image": "caption",
    "video": "caption",
    "document": "caption",
    "button": "text",
}
"""Where each type of message has its words."""

_REPLIES: Final = ("button_reply", "list_reply")


def text_of(message: Mapping[str, Any]) -> str | None:
    """Return its text, its caption, or the title of the button or the row that was tapped; None for what has no words."""
    kind = message.get("type")
    part = message.get(kind) if isinstance(kind, str) else None
    if not isinstance(part, Mapping):
        return None
    if kind == "interactive":
        replies = (part.get(reply) for reply in _REPLIES)
        said = next((reply.get("title") for reply in replies if isinstance(reply, Mapping)), None)
    else:
        said = part.get(_WORDS.get(str(kind), ""))
    return said if isinstance(said, str) and said else None


def joined(messages: Iterable[Mapping[str, Any]]) -> str:
    """Return the texts of all, in their order, a line (or more) each."""
    return "\n".join(text for message in messages if (text := text_of(message)))
