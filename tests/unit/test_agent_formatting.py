from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waemitter.turns.agents.formatting import LONGEST, split, whatsapp


@pytest.mark.parametrize(
    ("markdown", "shown"),
    [
        ("plain words, 2 * 3 = 6", "plain words, 2 * 3 = 6"),
        ("**bold** and __bold__", "*bold* and *bold*"),
        ("*it* and _it_", "_it_ and _it_"),
        ("***both***", "_*both*_"),
        ("~~gone~~", "~gone~"),
        ("`code`", "`code`"),
        ("# A **title**", "*A title*"),
        ("[the shop](https://shop.test/a)", "the shop (https://shop.test/a)"),
        ("<https://shop.test/a>", "https://shop.test/a"),
        ("[https://shop.test](https://shop.test)", "https://shop.test"),
        ("![a map](https://shop.test/map.png)", "a map (https://shop.test/map.png)"),
        ("one\ntwo\n\nthree", "one\ntwo\n\nthree"),
        ("- one\n- **two**\n  - deeper", "- one\n- *two*\n  - deeper"),
        ("* one\n* two", "- one\n- two"),
        ("3. one\n4. two", "3. one\n4. two"),
        ("```python\nx = 1\n```", "```\nx = 1\n```"),
        ("> said\n> so", "> said\n> so"),
        ("| a | b |\n|---|---|\n| **1** | 2 |", "a | b\n*1* | 2"),
        ("above\n\n---\n\nbelow", "above\n\n———\n\nbelow"),
        ("<b>not HTML</b> &amp; done", "<b>not HTML</b> & done"),
        ("snake_case_name", "snake_case_name"),
        ("", ""),
    ],
)
def test_markdown_becomes_whatsapp_s_marks(markdown: str, shown: str) -> None:
    assert whatsapp(markdown) == shown


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("", []),
        ("  short  ", ["short"]),
        ("One is here. Two is here. Three.", ["One is here.", "Two is here. Three."]),
        ("First one. Second. Third it is.", ["First one. Second.", "Third it is."]),
        ("A paragraph.\n\nAnother one here.", ["A paragraph.", "Another one here."]),
        ("a line of text\nand another line", ["a line of text", "and another line"]),
        ("x" * 45, ["x" * 20, "x" * 20, "x" * 5]),
        (
            "これは一つ目の文です。これは二つ目の文。三",
            ["これは一つ目の文です。これは二つ目の文。", "三"],
        ),
    ],
)
def test_a_long_text_is_cut_where_it_hurts_least(text: str, pieces: list[str]) -> None:
    assert split(text, 20) == pieces


@given(text=st.text(alphabet="ab. \n!é。", max_size=300), longest=st.integers(1, 60))
def test_pieces_are_short_enough_and_lose_nothing_but_blanks(text: str, longest: int) -> None:
    pieces = split(text, longest)

    assert all(0 < len(piece) <= longest for piece in pieces)
    assert "".join("".join(pieces).split()) == "".join(text.split())


def test_a_reply_of_9000_characters_is_three_messages_that_end_with_sentences() -> None:
    pieces = split("This sentence has exactly forty letters. " * 220)

    assert [len(piece) <= LONGEST for piece in pieces] == [True] * 3
    assert all(piece.endswith(".") for piece in pieces)
