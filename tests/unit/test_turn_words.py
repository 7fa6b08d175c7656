from typing import Any

import pytest

from waemitter.turns.words import joined, text_of


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ({"type": "text", "text": {"body": "a ride, please"}}, "a ride, please"),
        ({"type": "image", "image": {"id": "1", "caption": "my car"}}, "my car"),
        ({"type": "image", "image": {"id": "1"}}, None),
        ({"type": "document", "document": {"caption": "the form"}}, "the form"),
        ({"type": "button", "button": {"text": "Yes", "payload": "y"}}, "Yes"),
        ({"type": "interactive", "interactive": {"button_reply": {"title": "Book"}}}, "Book"),
        ({"type": "interactive", "interactive": {"list_reply": {"title": "Taxi"}}}, "Taxi"),
        ({"type": "interactive", "interactive": {"nfm_reply": {"body": "Sent"}}}, None),
        ({"type": "location", "location": {"latitude": 1.0}}, None),
        ({"type": "text", "text": {"body": 7}}, None),
        ({"type": "text", "text": "odd"}, None),
        ({"type": "text", "text": {"body": ""}}, None),
        ({"type": None}, None),
        ({}, None),
    ],
)
def test_the_words_of_a_message(message: dict[str, Any], text: str | None) -> None:
    assert text_of(message) == text


def test_a_windows_texts_are_lines_in_their_order() -> None:
    messages = [
        {"type": "text", "text": {"body": "Hello"}},
        {"type": "location", "location": {}},
        {"type": "image", "image": {"caption": "here"}},
    ]

    assert joined(messages) == "Hello\nhere"
    assert joined([]) == ""
