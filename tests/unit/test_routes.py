from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waemitter.inbox.windows import OFF, Window
from waemitter.turns.conditions import Conditions, Person, Words, compile_pattern, share
from waemitter.turns.routes import Route, Routes, Variant, choose
from waemitter.turns.routing import Facts, Flags
from waemitter.turns.turn import Answer, Contact, Session, Turn

ADA = Person("14155550123", None)


def route(name: str, *, words: Words = Words(), handler: str = "reply", **options: Any) -> Route:  # noqa: B008 frozen
    asked = {
        k: options.pop(k) for k in ("types", "referral", "contacts", "percent") if k in options
    }
    return Route(
        name=name,
        variants=(Variant(handler, handler),),
        conditions=Conditions(words=words, **asked),
        **options,
    )


def keywords(*given: str) -> Words:
    return Words(keywords=frozenset(given))


def text(body: str) -> dict[str, Any]:
    return {"type": "text", "from": "14155550123", "text": {"body": body}}


ROUTES = (
    route("rides", words=keywords("ride", "taxi"), service="rides"),
    route("menu", words=keywords("menu", "home"), ends_session=True),
    route("insurance", words=Words(contains=("insur",)), service="insurance"),
    route("order", words=Words(prefix=("order ",))),
    route("parcel", words=Words(patterns=(compile_pattern(r"\b[A-Z]{2}\d{9}\b"),))),
    route("advert", referral=True),
    route("photos", types=frozenset({"image"})),
    route("pilot", contacts=frozenset({"4915550100"})),
    route("agent", handler="agent", fallback=True),
    route("fallback", fallback=True),
)

TAPPED = {"type": "interactive", "interactive": {"button_reply": {"id": "Menu", "title": "Back"}}}
ADVERT = {**text("hello"), "referral": {"source_id": "1"}}


@pytest.mark.parametrize(
    ("messages", "service", "taken", "reason"),
    [
        ([text("  RIDE ")], None, "rides", "A message is the keyword 'ride'."),
        ([text("a ride")], None, "agent", "No other route matches: it is the fallback."),
        ([text("hello"), text("Taxi")], None, "rides", "A message is the keyword 'taxi'."),
        ([text("my INSURANCE")], None, "insurance", "A message contains 'insur'."),
        ([text("Order 17")], None, "order", "A message begins with 'order '."),
        (
            [text("where is rb123456789?")],
            None,
            "parcel",
            r"A message matches '\b[A-Z]{2}\d{9}\b'.",
        ),
        ([TAPPED], None, "menu", "The button 'menu' was tapped, which ends any session."),
        ([ADVERT], None, "advert", "It comes from an advertisement."),
        ([{"type": "image", "image": {}}], None, "photos", "Its type is image."),
        ([text("what now")], "rides", "rides", "The session is with the service 'rides'."),
        ([text("insurance")], "rides", "rides", "The session is with the service 'rides'."),
        (
            [text("Menu")],
            "rides",
            "menu",
            "A message is the keyword 'menu', which ends any session.",
        ),
        (
            [text("taxi")],
            "gone",
            "rides",
            "No route has the session's service 'gone', a message is the keyword 'taxi'.",
        ),
        ([{"type": "sticker"}], None, "agent", "No other route matches: it is the fallback."),
    ],
)
def test_which_route_a_turn_takes_and_why(messages, service, taken, reason):
    choice = choose(ROUTES, messages=messages, person=ADA, service=service)

    assert choice is not None
    assert (choice.route.name, choice.reason) == (taken, reason)


def test_without_agents_the_next_route_answers():
    choice = choose(ROUTES, messages=[text("x")], person=ADA, service=None, agents=False)

    assert choice is not None
    assert choice.route.name == "fallback"


def test_a_listed_contact_is_among_those_a_route_is_for():
    choice = choose(ROUTES, messages=[text("x")], person=Person("4915550100", None), service=None)

    assert choice is not None
    assert (choice.route.name, choice.reason) == ("pilot", "The contact is listed.")


def test_no_route_may_be_for_a_turn():
    assert choose(ROUTES[:3], messages=[text("x")], person=ADA, service=None) is None


def test_all_that_is_asked_holds_for_the_same_message():
    asked = (route("caption", words=keywords("receipt"), types=frozenset({"image"})),)
    apart = [{"type": "image", "image": {}}, text("receipt")]
    together = [{"type": "image", "image": {"caption": "Receipt"}}]

    assert choose(asked, messages=apart, person=ADA, service=None) is None
    assert choose(asked, messages=together, person=ADA, service=None) is not None


@given(st.integers(min_value=10**9, max_value=10**13), st.integers(0, 99))
def test_a_percentage_only_ever_grows_around_who_is_in_it(number, percent):
    person = Person(str(number), None)
    small, large = (Conditions(percent=each) for each in (percent, percent + 1))

    assert small.admit("r", person) == small.admit("r", person)
    if small.admit("r", person) is not None:
        assert large.admit("r", person) is not None


@pytest.mark.parametrize(
    ("percent", "least", "most"), [(0, 0, 0), (10, 70, 130), (100, 1000, 1000)]
)
def test_a_percentage_is_about_that_share_of_contacts(percent, least, most):
    people = [Person(str(14155550000 + n), None) for n in range(1000)]
    count = sum(Conditions(percent=percent).admit("new", person) is not None for person in people)

    assert least <= count <= most


def test_variants_share_contacts_by_weight_and_keep_them():
    promo = Route(name="promo", variants=(Variant("a", "reply", 3), Variant("b", "http", 1)))
    people = [Person(str(14155550000 + n), None) for n in range(1000)]
    chosen = [promo.variant(person).name for person in people]

    assert chosen == [promo.variant(person).name for person in people]
    assert 690 <= chosen.count("a") <= 810


@given(st.text(), st.text())
def test_a_share_is_a_percentage_and_differs_by_salt(salt, key):
    assert 0 <= share(salt, Person(key, None)) < 100


@given(
    st.lists(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(),
            lambda inner: (
                st.lists(inner)
                | st.dictionaries(
                    st.sampled_from(
                        [
                            "type",
                            "text",
                            "body",
                            "interactive",
                            "button",
                            "button_reply",
                            "id",
                            "referral",
                        ]
                    ),
                    inner,
                )
            ),
        ).filter(lambda value: isinstance(value, dict)),
        max_size=3,
    ),
    st.none() | st.text(),
)
def test_whatever_comes_there_is_a_route_with_a_reason(messages, service):
    choice = choose(ROUTES, messages=messages, person=ADA, service=service)

    assert choice is not None
    assert choice.reason.endswith(".")


def test_a_pattern_that_would_take_for_ever_elsewhere_takes_no_time():
    evil = Words(patterns=(compile_pattern("^(a+)+$"),))

    assert evil.match(text("a" * 4000 + "b")) is None


class Silent:
    async def handle(self, turn: Turn) -> Answer:
        del turn
        return Answer()


WINDOW = Window(duration=5)
SLIDING = Window(mode="sliding", duration=2)


def table(*routes: Route) -> Routes:
    handlers = {(r.name, v.name): Silent() for r in routes for v in r.variants}
    return Routes(routes, handlers=handlers, window=WINDOW)


def facts(*messages: dict[str, Any]) -> Facts:
    contact = Contact(5, "14155550123", None, "+14155550123", "Ada")
    return Facts(channel="default", conversation_id=3, contact=contact, text="", messages=messages)


def test_a_decision_carries_what_its_route_says():
    router = table(
        route("rides", words=keywords("ride"), service="rides", supersede="discard", buffer=SLIDING)
    )

    decision = router.decide(facts(text("ride")), Session(), Flags())

    assert decision is not None
    assert (decision.route, decision.service, decision.supersede) == ("rides", "rides", "discard")
    assert decision.buffer == SLIDING
    assert router.decide(facts(text("x")), Session(), Flags()) is None


def test_switched_off_there_are_no_agents_and_nothing_is_discarded():
    router = table(
        route("agent", handler="agent", fallback=True),
        route("fallback", fallback=True, supersede="discard"),
    )

    decision = router.decide(facts(text("x")), Session(), Flags(enhanced_processing=False))

    assert decision is not None
    assert (decision.route, decision.supersede) == ("fallback", "keep")


@pytest.mark.parametrize(
    ("said", "service", "window"),
    [
        ("menu", None, OFF),
        ("menu", "rides", OFF),
        ("ride", None, SLIDING),
        ("something", "rides", SLIDING),
        ("something", None, WINDOW),
    ],
)
def test_the_window_of_a_message_is_its_route_s(said, service, window):
    router = table(
        route("menu", words=keywords("menu"), ends_session=True),
        route("rides", words=keywords("ride"), service="rides", buffer=SLIDING),
        route("fallback", fallback=True),
    )

    decision = router.decide(facts(text(said)), Session(service), Flags())

    assert decision is not None
    assert decision.buffer == window
