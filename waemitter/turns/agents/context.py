"""What a model is shown: the system prompt, as much of the conversation as fits, and what the customer says now."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

from waemitter.turns.agents.tokens import MESSAGE
from waemitter.turns.words import text_of

Role: TypeAlias = Literal["system", "user", "assistant", "tool"]
Count: TypeAlias = Callable[[str], int]

IMAGE: Final = 800
"""Tokens of one image, about: models count them each in its own way, most between 250 and 1,500."""
_SUMMARY: Final = "What was said before, in short:\n"
_MEDIA: Final = {
    "image": "an image",
    "video": "a video",
    "audio": "a voice message",
    "sticker": "a sticker",
    "contacts": "a contact card",
    "order": "an order",
}


@dataclass(frozen=True, slots=True)
class Call:
    """The model asks a tool. `arguments`: JSON as the model wrote it, right or wrong."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a chat, to a model or from it.

    `images`: addresses, most often `data:` ones; `calls`: the tools that an assistant asks; `answers`: the id of the call whose
    result a tool's message is.
    """

    role: Role
    content: str
    images: Sequence[str] = ()
    calls: Sequence[Call] = ()
    answers: str | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """One exchange that is over. `human`: a person gave the answer. Either side may be missing."""

    heard: str | None
    said: str | None
    human: bool = False
    id: int = 0

    def messages(self) -> list[Message]:
        heard = [Message("user", self.heard)] if self.heard else []
        return heard + ([Message("assistant", self.said)] if self.said else [])


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """What is remembered of a conversation: `summary` stands for all that came before the entries, which are oldest first."""

    summary: str | None = None
    entries: Sequence[Entry] = ()


@dataclass(frozen=True, slots=True)
class Context:
    """The messages to send, their tokens, and how many of the oldest entries did not fit."""

    messages: Sequence[Message]
    tokens: int
    dropped: int


def build(
    *,
    system: str,
    memory: Memory,
    now: str,
    most: int,
    count: Count,
    images: Sequence[str] = (),
) -> Context:
    """Fill a window of `most` tokens, newest entries first, none of them in part.

    The system prompt, the summary and what the customer says and shows now are never left out, though they be longer than the
    window.
    """
    if memory.summary:
        system = f"{system}\n\n{_SUMMARY}{memory.summary}"
    first, last = Message("system", system), Message("user", now, images)
    tokens = _tokens([first, last], count)
    kept: list[list[Message]] = []
    for entry in reversed(memory.entries):
        messages = entry.messages()
        needed = _tokens(messages, count)
        if tokens + needed > most:
            break
        tokens += needed
        kept.append(messages)
    between = [message for messages in reversed(kept) for message in messages]
    return Context([first, *between, last], tokens, len(memory.entries) - len(kept))


def _tokens(messages: Iterable[Message], count: Count) -> int:
    return sum(
        count(message.content) + IMAGE * len(message.images) + MESSAGE for message in messages
    )


def said(messages: Iterable[Mapping[str, Any]]) -> str:
    """Say in words what a customer wrote: texts as they are, everything else by a reference in brackets, a line each."""
    return "\n".join(_line(message) for message in messages)


def _line(message: Mapping[str, Any]) -> str:
    kind = str(message.get("type"))
    words = text_of(message)
    part = message.get(kind)
    details = part if isinstance(part, Mapping) else {}
    if kind == "document":
        reference = f"[a document: {details.get('filename') or 'without a name'}]"
    elif kind == "location":
        reference = _location(details)
    elif kind == "reaction":
        reference = f"[a reaction: {details.get('emoji') or 'taken back'}]"
    elif kind in _MEDIA:
        reference = f"[{_MEDIA[kind]}]"
    else:
        return words or f"[a message of the type {kind}]"
    return f"{reference} {words}" if words else reference


def _location(details: Mapping[str, Any]) -> str:
    named = ", ".join(str(details[key]) for key in ("name", "address") if details.get(key))
    place = f"{details.get('latitude')}, {details.get('longitude')}"
    return f"[a location: {named + ', ' if named else ''}{place}]"
