"""What a route asks of a turn: its words, its types, where it came from, and who wrote it. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, TypeAlias

import re2

from waemitter.turns.turn import Contact
from waemitter.turns.words import text_of

LONGEST_PATTERN: Final = 500
"""Characters."""
LONGEST_TEXT: Final = 4096
"""Characters of a message that patterns look at: the most that a text of WhatsApp holds."""
_MEMORY: Final = 1 << 20

Pattern: TypeAlias = Any
"""A compiled expression of RE2, which ships no types."""


def compile_pattern(source: str) -> Pattern:
    """Compile an expression of RE2, which takes time in proportion to the text, whatever the expression.

    It ignores case and knows neither backreferences nor look-around. Raises ValueError, saying what is wrong.
    """
    if len(source) > LONGEST_PATTERN:
        raise ValueError(f"must have at most {LONGEST_PATTERN} characters")
    options = re2.Options()
    options.case_sensitive = False
    options.log_errors = False
    options.max_mem = _MEMORY
    try:
        return re2.compile(source, options)
    except re2.error as error:
        told = error.args[0] if error.args else error
        words = told.decode(errors="replace") if isinstance(told, bytes) else str(told)
        raise ValueError(f"is no regular expression of RE2: {words}") from None


def folded(text: str) -> str:
    """Return the text as words are compared: without case, and with single blanks between them."""
    return " ".join(text.casefold().split())


class Person(NamedTuple):
    """Who wrote, by any of the ids that Meta gives."""

    wa_id: str | None
    user_id: str | None

    @property
    def key(self) -> str:
        """By this a contact falls on the same side of a percentage every time."""
        return self.wa_id or self.user_id or ""


def person_of(contact: Contact) -> Person:
    return Person(contact.wa_id, contact.user_id)


def share(salt: str, person: Person) -> float:
    """Put a contact at a place from 0 up to 100, always the same for the same salt."""
    digest = hashlib.sha256(f"{salt}\0{person.key}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64 * 100


@dataclass(frozen=True, slots=True)
class Words:
    """What a single message may say; any of these is enough. All but the patterns are `folded`."""

    keywords: frozenset[str] = frozenset()
    prefix: tuple[str, ...] = ()
    contains: tuple[str, ...] = ()
    patterns: tuple[Pattern, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.keywords or self.prefix or self.contains or self.patterns)

    def match(self, message: Mapping[str, Any]) -> str | None:
        """Say what it is that matches; None: nothing does."""
        tapped = folded(_id_of(message) or "")
        if tapped and tapped in self.keywords:
            return f"the button '{tapped}' was tapped"
        text = text_of(message)
        return None if text is None else self._match_text(text)

    def _match_text(self, text: str) -> str | None:
        said = folded(text)
        if said in self.keywords:
            return f"a message is the keyword '{said}'"
        for start in self.prefix:
            if said.startswith(start):
                return f"a message begins with '{start}'"
        for part in self.contains:
            if part in said:
                return f"a message contains '{part}'"
        for pattern in self.patterns:
            if pattern.search(text[:LONGEST_TEXT]):
                return f"a message matches '{pattern.pattern}'"
        return None


@dataclass(frozen=True, slots=True)
class Conditions:
    """Which turns are the route's; what is empty or None is not asked.

    All that is asked of messages must hold for one and the same message of the turn, and the contact be among those it is for.
    `types`: Meta's message types. `referral`: whether the message came from an advertisement. `contacts` (digits, or user ids)
    and `percent` say whom the route is for: who is listed, or falls within the percentage. `fields` and `events`: of webhooks
    that tell of something else than messages; a route that states `fields` is for those alone, and no other route is.
    """

    words: Words = Words()
    types: frozenset[str] = frozenset()
    referral: bool | None = None
    contacts: frozenset[str] = frozenset()
    percent: float | None = None
    fields: frozenset[str] = frozenset()
    events: frozenset[str] = frozenset()

    @property
    def about_messages(self) -> bool:
        return bool(self.words or self.types or self.referral is not None or self.fields)

    @property
    def about_contacts(self) -> bool:
        return bool(self.contacts) or self.percent is not None

    def admit(self, route: str, person: Person) -> str | None:
        """Say why the contact is among those the route is for; empty when it is for all, None when not."""
        if not self.about_contacts:
            return ""
        if not self.contacts.isdisjoint({person.wa_id, person.user_id} - {None}):
            return "the contact is listed"
        if self.percent is not None and share(route, person) < self.percent:
            return f"the contact is among its {self.percent:g} %"
        return None

    def match(self, message: Mapping[str, Any]) -> str | None:
        """Say what about the message matches; empty when nothing is asked of it, None when it does not match."""
        field = field_of(message)
        if field is not None or self.fields:
            return self._match_field(field, message)
        reasons: list[str] = []
        if self.words:
            said = self.words.match(message)
            if said is None:
                return None
            reasons.append(said)
        if self.types:
            kind = message.get("type")
            if not isinstance(kind, str) or kind not in self.types:
                return None
            reasons.append(f"its type is {kind}")
        if self.referral is not None:
            if isinstance(message.get("referral"), Mapping) != self.referral:
                return None
            reasons.append(
                "it comes from an advertisement"
                if self.referral
                else "it comes from no advertisement"
            )
        return ", ".join(reasons)

    def _match_field(self, field: str | None, message: Mapping[str, Any]) -> str | None:
        event = _word(message.get("event"))
        if field not in self.fields or (self.events and event not in self.events):
            return None
        return f"Meta told of {field}" + (f", {event}" if self.events else "")


def field_of(message: Mapping[str, Any]) -> str | None:
    """The webhook field that a turn tells of; None: somebody has written."""
    return _word(message.get("field"))


def _id_of(message: Mapping[str, Any]) -> str | None:
    """The id of the button or the row that was tapped, as whoever sent it had set it."""
    button, interactive = message.get("button"), message.get("interactive")
    if isinstance(button, Mapping):
        return _word(button.get("payload"))
    if isinstance(interactive, Mapping):
        for kind in ("button_reply", "list_reply"):
            if isinstance(reply := interactive.get(kind), Mapping):
                return _word(reply.get("id"))
    return None


def _word(value: Any) -> str | None:
    return value if isinstance(value, str) else None
