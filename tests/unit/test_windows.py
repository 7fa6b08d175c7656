from typing import Any

import pytest

from tests.turns_bench import Script
from waemitter.inbox.windows import OFF, Window, complete, gathers
from waemitter.turns.routes import Routes
from waemitter.turns.routing import Decision, RoutedWindows
from waemitter.turns.turn import Session

TEXT: dict[str, Any] = {"id": "1", "type": "text", "from": "14155550123", "text": {"body": "hi"}}


@pytest.mark.parametrize(
    ("message", "for_a_turn", "at_once"),
    [
        (TEXT, True, False),
        ({"type": "image", "image": {}}, True, False),
        ({"type": "unsupported"}, True, False),
        ({"type": "button", "button": {}}, True, True),
        ({"type": "interactive", "interactive": {"button_reply": {}}}, True, True),
        ({"type": "interactive", "interactive": {"list_reply": {}}}, True, True),
        ({"type": "interactive", "interactive": {"nfm_reply": {}}}, True, True),
        ({"type": "interactive", "interactive": {"call_permission_reply": {}}}, True, False),
        ({"type": "interactive", "interactive": None}, True, False),
        ({"type": "reaction"}, False, False),
        ({"type": "system"}, False, False),
        ({"type": "edit"}, False, False),
        ({"type": "revoke"}, False, False),
        ({"type": "request_welcome"}, False, False),
        ({**TEXT, "group_id": "g"}, False, False),
        ({}, True, False),
    ],
)
def test_what_a_message_means_for_a_window(
    message: dict[str, Any],
    for_a_turn: bool,  # noqa: FBT001 a column of the table above
    at_once: bool,  # noqa: FBT001 as above
) -> None:
    assert gathers(message) is for_a_turn
    assert complete(message) is at_once


def window(windows: RoutedWindows) -> Window:
    return windows.window(channel="default", message=TEXT, active_service=None)


def test_a_message_has_the_window_of_its_route_and_else_the_default() -> None:
    default = Window(duration=7)
    nobody = Routes((), handlers={}, window=OFF)

    assert window(RoutedWindows(Script(window=OFF), default)) == OFF
    assert window(RoutedWindows(nobody, default)) == default


def test_a_route_that_fails_loses_no_message(monkeypatch: pytest.MonkeyPatch) -> None:
    script = Script()

    def decide(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(script, "decide", decide)

    assert window(RoutedWindows(script, OFF)) == OFF


@pytest.mark.parametrize(
    ("decided", "had", "said", "before", "after"),
    [
        ({}, Session("rides", {"a": 1}), None, Session("rides", {"a": 1}), None),
        ({"service": "rides"}, Session(), None, Session(), Session("rides", {})),
        ({"service": "rides"}, Session("rides", {"a": 1}), None, Session("rides", {"a": 1}), None),
        (
            {"service": "jobs"},
            Session("rides", {"a": 1}),
            None,
            Session("rides", {"a": 1}),
            Session("jobs", {"a": 1}),
        ),
        ({"ends_session": True}, Session("rides", {"a": 1}), None, Session(), Session()),
        ({"ends_session": True}, Session(), None, Session(), None),
        ({"service": "rides"}, Session(), Session("jobs", {}), Session(), Session("jobs", {})),
        ({"service": "rides"}, Session("rides"), Session(), Session("rides"), Session()),
    ],
)
def test_the_handler_has_the_last_word_on_a_session(
    decided: dict[str, Any],
    had: Session,
    said: Session | None,
    before: Session,
    after: Session | None,
) -> None:
    decision = Decision(route="r", reason="-", handler=Script(), buffer=OFF, **decided)

    assert decision.session_before(had) == before
    assert decision.session_after(had, said) == after
