from typing import Any

import pytest

from waemitter.errors import PayloadError
from waemitter.turns.answers import MOST_MESSAGES, parse_answer
from waemitter.turns.turn import Answer, Session

EMPTY = Session()
RIDES = Session("rides", {"step": 1})
HELLO = {"type": "text", "text": {"body": "Hello"}}


def test_every_key_may_be_left_out():
    assert parse_answer({}, before=RIDES) == Answer()
    assert parse_answer(None, before=RIDES) == Answer()


def test_replies_session_and_hand_over():
    document = {
        "messages": [HELLO],
        "session": {"active_service": "rides", "context": {"step": 2}},
        "handover": True,
    }

    assert parse_answer(document, before=EMPTY) == Answer(
        messages=(HELLO,), session=Session("rides", {"step": 2}), handover=True
    )


@pytest.mark.parametrize(
    ("given", "service", "session"),
    [
        ({}, None, Session("rides", {"step": 1})),
        ({"context": {"step": 2}}, None, Session("rides", {"step": 2})),
        ({"context": {}}, "taxi", Session("taxi", {})),
        ({"active_service": "taxi"}, None, Session("taxi", {"step": 1})),
        ({"activeService": "taxi"}, None, Session("taxi", {"step": 1})),
        ({"active_service": None}, "rides", Session(None, {"step": 1})),
    ],
)
def test_what_an_answer_leaves_out_of_the_session_stays_as_it_was(given, service, session):
    answer = parse_answer({"session": given}, before=RIDES, service=service)

    assert answer.session == session


@pytest.mark.parametrize(
    ("document", "complaint"),
    [
        ([], "answer: must be an object"),
        ({"mesages": []}, "mesages: is not known here"),
        ({"messages": {}}, "messages: must be an array"),
        ({"messages": ["hi"]}, "messages.0: must be an object"),
        ({"messages": [HELLO] * (MOST_MESSAGES + 1)}, f"messages: holds more than {MOST_MESSAGES}"),
        (
            {"messages": [{"text": {"body": "x"}}]},
            "messages[0].type: must be a message type, such as text",
        ),
        (
            {"messages": [HELLO, {"type": "text", "text": {"body": "s3cret" * 1000}}]},
            "messages[1].text.body: has 6000 characters: at most 4096 are allowed, shorten it",
        ),
        ({"session": {"service": "x"}}, "session.service: is not known here"),
        ({"session": {"active_service": ""}}, "session.active_service: must not be empty"),
        ({"session": {"context": 7}}, "session.context: must be an object"),
        ({"handover": "yes"}, "handover: must be true or false"),
    ],
)
def test_a_wrong_answer_is_named_by_its_field_and_never_quoted(document: Any, complaint: str):
    with pytest.raises(PayloadError) as raised:
        parse_answer(document, before=RIDES)

    assert str(raised.value) == complaint
