"""STOP and START: which messages are one, and which only look like one."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waemitter.inbox.optout_words import LANGUAGES
from waemitter.inbox.optouts import LONGEST, Heard, OptOutWords, folded

EVERY = OptOutWords(LANGUAGES)


def text(body: object) -> dict[str, object]:
    return {"type": "text", "text": {"body": body}}


@pytest.mark.parametrize(
    "body",
    [
        "stop",
        "STOP",
        " Stop. ",
        "stop!!!",
        "«Stop»",
        "S\u0301TOP",
        "\uff33\uff34\uff2f\uff30",
        "🛑 stop 🙏",
        "Opt-Out",
    ],
)
def test_case_blanks_punctuation_and_width_do_not_count(body: str) -> None:
    heard = EVERY.hear(text(body))
    assert heard is not None
    assert heard.wish == "stop"


@pytest.mark.parametrize(
    "body",
    [
        "please stop by at nine",
        "stop?? no, go on",
        "don't stop",
        "nonstop",
        "s t o p",
        "cancel",  # of a dialogue
        "acha",  # "fine", in Hinglish
        "रक",  # vowel signs tell words apart
        "",
        "!!!",
        None,
        17,
        "stop " * 20,
    ],
)
def test_only_the_whole_message_counts(body: object) -> None:
    assert EVERY.hear(text(body)) is None


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_language_knows_its_own_words_and_answers_in_its_own(language: str) -> None:
    words, own = LANGUAGES[language], OptOutWords([language])
    for word in words.stop:
        assert own.hear(text(word.upper())) == Heard("stop", words.stopped)
    for word in words.start:
        assert own.hear(text(f" {word}. ")) == Heard("start", words.started)
    assert not {folded(word) for word in words.stop} & {folded(word) for word in words.start}


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_confirmation_names_a_word_that_takes_it_back(language: str) -> None:
    words, own = LANGUAGES[language], OptOutWords([language])

    def named(reply: str) -> set[str]:
        parts = folded(reply[:LONGEST]).split() + folded(reply[-LONGEST:]).split()
        pairs = [" ".join(pair) for pair in pairwise(parts)]
        found = [own.hear(text(each)) for each in [*parts, *pairs]]
        return {heard.wish for heard in found if heard is not None}

    assert "start" in named(words.stopped)
    assert "stop" in named(words.started)


def test_accents_may_be_left_out() -> None:
    heard = OptOutWords(["fr"]).hear(text("Arreter"))
    assert heard is not None
    assert heard.wish == "stop"


def test_the_first_language_that_has_a_word_answers() -> None:
    assert OptOutWords(["de", "en"]).hear(text("stop")) == Heard("stop", LANGUAGES["de"].stopped)
    assert OptOutWords(["en", "de"]).hear(text("stop")) == Heard("stop", LANGUAGES["en"].stopped)


@pytest.mark.parametrize(
    "message",
    [
        {"type": "button", "button": {"payload": "STOP", "text": "Keine Angebote mehr"}},
        {"type": "button", "button": {"payload": "menu-7", "text": "Stop"}},
        {"type": "interactive", "interactive": {"button_reply": {"id": "stop", "title": "Ende"}}},
        {"type": "interactive", "interactive": {"list_reply": {"id": "7", "title": "Unsubscribe"}}},
    ],
)
def test_a_button_s_payload_or_words_count_too(message: dict[str, object]) -> None:
    heard = EVERY.hear(message)
    assert heard is not None
    assert heard.wish == "stop"


def test_further_words_and_replies_are_the_operator_s() -> None:
    words = OptOutWords(
        [], stop_words=["Fertig"], start_words=["Weiter"], stop_reply="", start_reply="Hi"
    )
    assert words.hear(text("fertig!")) == Heard("stop", "")
    assert words.hear(text("weiter")) == Heard("start", "Hi")
    assert words.hear(text("stop")) is None


def test_without_languages_and_words_nothing_is_a_wish() -> None:
    assert OptOutWords([]).hear(text("stop")) is None


@given(st.text(alphabet="stopSTOP .!\u0301é🛑", max_size=80))
def test_folding_twice_is_folding_once(body: str) -> None:
    assert folded(folded(body)) == folded(body)
    EVERY.hear(text(body))
