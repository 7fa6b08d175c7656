"""What becomes of a free-form message outside the 24 hours, by the channel's policy."""

from __future__ import annotations

import orjson

from waemitter.outbox.message import Attempt
from waemitter.outbox.permissions.window import REFUSAL, WindowPolicy, sort
from waemitter.outbox.retry import Outcome

TEMPLATE = {"name": "order_shipped", "language": {"code": "en_US"}}


def attempt(message_id: int, **payload: object) -> Attempt:
    body = orjson.dumps({"text": {"body": "Hello"}, **payload}).decode()
    return Attempt(message_id, 7, "+14155550123", "text", body, 1, None, None, 0.0, 0.0)


def test_inside_the_window_a_message_leaves_as_it_is_whatever_the_policy() -> None:
    given = [attempt(1), attempt(2, fallback_template=TEMPLATE)]
    for policy in WindowPolicy:
        assert sort(given, set(), policy=policy) == (given, [])


def test_to_send_all_the_same_leaves_the_word_to_meta() -> None:
    assert sort([attempt(1)], {1}, policy=WindowPolicy.SEND) == ([attempt(1)], [])


def test_to_fail_refuses_what_is_outside_and_nothing_else() -> None:
    inside, outside = attempt(1), attempt(2, fallback_template=TEMPLATE)
    found = sort([outside, inside], {2}, policy=WindowPolicy.FAIL)
    assert found == ([inside], [outside])


def test_a_template_takes_the_place_of_the_message_that_names_it() -> None:
    given = attempt(1, fallback_template=TEMPLATE, context={"message_id": "wamid.1"}, preview=1)
    ((sent,), refused) = sort([given], {1}, policy=WindowPolicy.TEMPLATE)
    assert refused == []
    assert (sent.id, sent.token, sent.message_type) == (1, 7, "template")
    assert orjson.loads(sent.payload) == {
        "context": {"message_id": "wamid.1"},
        "template": TEMPLATE,
    }


def test_a_message_that_names_no_template_is_refused() -> None:
    for given in (attempt(1), attempt(1, fallback_template="order_shipped")):
        assert sort([given], {1}, policy=WindowPolicy.TEMPLATE) == ([], [given])


def test_the_refusal_has_meta_s_own_code() -> None:
    assert (REFUSAL.outcome, REFUSAL.code) == (Outcome.FAILED, 131047)
