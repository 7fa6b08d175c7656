"""The handler `reply`: what it says stands in waemitter.toml."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from typing_extensions import override

from waemitter.turns.turn import Answer, Contact, Handler, Turn

LONGEST_NAME: Final = 60
"""Characters of a name that go into a reply: whoever writes chooses his own."""

_PLACE: Final = re.compile(r"\{([a-z_]+)(?:\|([^{}]*))?\}")
_KNOWN: Final = ("name", "phone")


def unknown_places(value: Any) -> list[str]:
    """Find what looks like a placeholder and is none, in all texts of a message."""
    if isinstance(value, str):
        return [match[1] for match in _PLACE.finditer(value) if match[1] not in _KNOWN]
    return [word for part in _parts(value) for word in unknown_places(part)]


def filled(value: Any, contact: Contact) -> Any:
    """Put the contact into all texts of a message: `{name}`, or `{name|there}` for who has no name."""
    if isinstance(value, str):
        known = {"name": _one_line(contact.name), "phone": contact.phone}
        return _PLACE.sub(lambda m: known.get(m[1]) or m[2] or "", value)
    if isinstance(value, Mapping):
        return {key: filled(part, contact) for key, part in value.items()}
    if isinstance(value, Sequence):
        return [filled(part, contact) for part in value]
    return value


class Reply(Handler):
    """Says the same to everybody, but for the name."""

    def __init__(self, messages: Sequence[Mapping[str, Any]], *, handover: bool = False) -> None:
        """`messages`: Cloud API objects, which have been checked."""
        self._messages = messages
        self._handover = handover

    @override
    async def handle(self, turn: Turn) -> Answer:
        return Answer(
            messages=[filled(message, turn.contact) for message in self._messages],
            handover=self._handover,
        )


def _parts(value: Any) -> Sequence[Any]:
    if isinstance(value, Mapping):
        return list(value.values())
    return value if isinstance(value, Sequence) else ()


def _one_line(name: str | None) -> str | None:
    return " ".join(name.split())[:LONGEST_NAME] if name else None
