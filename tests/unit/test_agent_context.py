from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waemitter.turns.agents.context import Context, Entry, Memory, build, said
from waemitter.turns.agents.tokens import calibrated, estimate
from waemitter.turns.agents.variants import chosen


def words(text: str) -> int:
    return len(text.split())


def window(memory: Memory, most: int, *, now: str = "now", system: str = "be kind") -> Context:
    return build(system=system, memory=memory, now=now, most=most, count=words)


def test_a_context_is_the_prompt_the_past_and_the_present() -> None:
    memory = Memory(entries=[Entry("hello", "hi"), Entry(None, "from a human", human=True)])

    context = window(memory, 1000)

    assert [(m.role, m.content) for m in context.messages] == [
        ("system", "be kind"),
        ("user", "hello"),
        ("assistant", "hi"),
        ("assistant", "from a human"),
        ("user", "now"),
    ]
    assert context.dropped == 0


def test_the_oldest_exchanges_go_first_and_whole() -> None:
    memory = Memory(entries=[Entry(f"question {n}", f"answer {n}") for n in range(4)])

    # prompt 2 + 4, now 1 + 4, and each exchange 4 words + 8
    context = window(memory, 11 + 2 * 12 + 11)

    assert context.dropped == 2
    assert [m.content for m in context.messages[1:-1]] == [
        "question 2",
        "answer 2",
        "question 3",
        "answer 3",
    ]
    assert context.tokens == 11 + 24


def test_a_summary_stands_in_the_prompt_for_what_came_before() -> None:
    context = window(Memory(summary="Ada wants a taxi.", entries=[Entry("and", "yes")]), 100)

    assert context.messages[0].content.startswith("be kind\n\n")
    assert context.messages[0].content.endswith("Ada wants a taxi.")


@given(
    entries=st.lists(st.builds(Entry, st.text(max_size=40), st.text(max_size=40)), max_size=8),
    most=st.integers(0, 200),
    now=st.text(max_size=200),
)
def test_the_prompt_and_the_last_words_are_never_dropped_and_the_rest_never_exceeds_the_window(
    entries: list[Entry], most: int, now: str
) -> None:
    memory = Memory(entries=entries)
    context = build(system="prompt", memory=memory, now=now, most=most, count=len)
    least = build(system="prompt", memory=Memory(), now=now, most=0, count=len)

    assert context.messages[0].content == "prompt"
    assert context.messages[-1].content == now
    assert context.tokens <= max(most, least.tokens)
    kept = [m for entry in entries[context.dropped :] for m in entry.messages()]
    assert list(context.messages[1:-1]) == kept


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ({"type": "text", "text": {"body": "hello"}}, "hello"),
        ({"type": "image", "image": {"id": "1"}}, "[an image]"),
        ({"type": "image", "image": {"id": "1", "caption": "my car"}}, "[an image] my car"),
        ({"type": "document", "document": {"filename": "bill.pdf"}}, "[a document: bill.pdf]"),
        ({"type": "document", "document": {}}, "[a document: without a name]"),
        ({"type": "audio", "audio": {"id": "1"}}, "[a voice message]"),
        (
            {"type": "location", "location": {"latitude": 1.5, "longitude": 2, "name": "Home"}},
            "[a location: Home, 1.5, 2]",
        ),
        ({"type": "reaction", "reaction": {"emoji": "👍"}}, "[a reaction: 👍]"),
        ({"type": "reaction", "reaction": {"emoji": ""}}, "[a reaction: taken back]"),
        ({"type": "button", "button": {"text": "Yes"}}, "Yes"),
        ({"type": "image", "image": None}, "[an image]"),
        ({"type": "unsupported"}, "[a message of the type unsupported]"),
    ],
)
def test_what_is_no_text_is_shown_by_a_reference(message: dict[str, object], words: str) -> None:
    assert said([message, {"type": "text", "text": {"body": "?"}}]) == f"{words}\n?"


def test_an_estimate_counts_bytes_and_rounds_up() -> None:
    assert estimate("") == 0
    assert estimate("a") == 1
    assert estimate("a" * 400) == 100
    assert estimate("a" * 400, 1.5) == 150
    assert estimate("я" * 400) == 200


def test_the_factor_moves_towards_what_the_server_counted_and_stays_sane() -> None:
    factor = 1.0
    for _ in range(40):
        factor = calibrated(factor, estimated=estimate("a" * 400, factor), counted=150)
    assert factor == pytest.approx(1.5, rel=0.02)
    assert calibrated(1.0, estimated=100, counted=0) == 1.0
    assert calibrated(1.0, estimated=0, counted=100) == 1.0
    for _ in range(100):
        factor = calibrated(factor, estimated=1, counted=1_000_000)
    assert factor == 4.0


def test_a_contact_keeps_its_variant_and_the_weights_hold() -> None:
    weights = [("a", 3.0), ("b", 1.0), ("off", 0.0)]
    first = {contact: chosen("assistant", contact, weights) for contact in range(4000)}

    assert first == {contact: chosen("assistant", contact, weights) for contact in range(4000)}
    assert set(first.values()) == {"a", "b"}
    assert sum(name == "a" for name in first.values()) == pytest.approx(3000, abs=150)


def test_a_new_variant_takes_contacts_and_moves_none_between_the_others() -> None:
    before = {contact: chosen("x", contact, [("a", 1), ("b", 1)]) for contact in range(2000)}
    after = {c: chosen("x", c, [("a", 1), ("b", 1), ("c", 1)]) for c in range(2000)}

    assert {after[c] for c in after if after[c] != before[c]} == {"c"}
