"""The words by which people stop us, and start us again.

A word counts only when it is the whole message: "stop" does, "stop by at nine" does not. Case, blanks, punctuation, emoji and
the accents of Latin, Greek and Cyrillic letters do not count. Which languages count, and further words, are settings.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

from waemitter.inbox.optout_words import LANGUAGES

Wish: TypeAlias = Literal["stop", "start"]
LONGEST: Final = 64  # characters of a message that is looked at at all
DOTLESS_I: Final = "\u0131"  # Turkish: its capital is everybody's I
_ACCENTS: Final = range(0x0300, 0x0370)


@dataclass(frozen=True, slots=True)
class Heard:
    """A wish, and what to answer; an empty reply is none."""

    wish: Wish
    reply: str


class OptOutWords:
    """The words of some languages and further ones. Of a word that several have, the first language answers."""

    def __init__(
        self,
        languages: Iterable[str],
        *,
        stop_words: Iterable[str] = (),
        start_words: Iterable[str] = (),
        stop_reply: str | None = None,
        start_reply: str | None = None,
    ) -> None:
        """`stop_reply`, `start_reply`: instead of the languages' own; an empty one is none. Raises KeyError for a language."""
        self._heard: Final[dict[str, Heard]] = {}
        own = list(languages)
        for language in own:
            words = LANGUAGES[language]
            self._add("stop", words.stop, words.stopped if stop_reply is None else stop_reply)
            self._add("start", words.start, words.started if start_reply is None else start_reply)
        first = LANGUAGES[own[0] if own else "en"]
        self._add("stop", stop_words, first.stopped if stop_reply is None else stop_reply)
        self._add("start", start_words, first.started if start_reply is None else start_reply)

    def hear(self, message: Mapping[str, Any]) -> Heard | None:
        """The wish that a message of the Cloud API is, if it is one: a text, or the text or payload of a button."""
        for text in _texts(message):
            if (heard := self._heard.get(folded(text))) is not None:
                return heard
        return None

    def _add(self, wish: Wish, words: Iterable[str], reply: str) -> None:
        for word in words:
            if key := folded(word):
                self._heard.setdefault(key, Heard(wish, reply))


def folded(text: str) -> str:
    """The letters and digits of a short text, in one spelling; empty for a text that is too long to be a word."""
    if len(text) > LONGEST:
        return ""
    kept: list[str] = []
    for character in unicodedata.normalize("NFKD", text.casefold().replace(DOTLESS_I, "i")):
        if ord(character) in _ACCENTS:
            continue
        # Vowel signs of Indic scripts and Arabic are marks too, and tell words apart.
        kept.append(character if unicodedata.category(character)[0] in "LMN" else " ")
    return unicodedata.normalize("NFC", " ".join("".join(kept).split()))


def _texts(message: Mapping[str, Any]) -> list[str]:
    """What a person wrote, or the button that they pressed: its payload first, since the text may be translated."""
    interactive = _part(message, "interactive")
    found = [
        _part(message, "text").get("body"),
        _part(message, "button").get("payload"),
        _part(message, "button").get("text"),
        *(
            _part(interactive, reply).get(key)
            for reply in ("button_reply", "list_reply")
            for key in ("id", "title")
        ),
    ]
    return [text for text in found if isinstance(text, str)]


def _part(message: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    given = message.get(key)
    return given if isinstance(given, Mapping) else {}
