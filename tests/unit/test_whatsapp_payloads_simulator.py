"""The payload checks and the simulator were written apart: where both have a rule, they agree."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import Phase, find, given, settings
from hypothesis import strategies as st

from waemitter.simulator.validation import validate
from waemitter.whatsapp.payloads import problems

Strategy = st.SearchStrategy[Any]


def text(most: int, least: int = 1) -> Strategy:
    """A text whose length is around its limits, mostly within."""
    lengths = [least, most, most, most, most + 1, *([0] if least else [])]
    return st.sampled_from(lengths).map(lambda length: "é" * length)


def label(most: int) -> Strategy:
    return st.sampled_from([*"ABCDEFGHIJ", " A", "A\n", "é" * most, "é" * (most + 1)])


def record(required: dict[str, Strategy], optional: dict[str, Strategy] | None = None) -> Strategy:
    """An object that, one time in eight, lacks one of its fields."""
    whole = st.fixed_dictionaries(required, optional=optional or {})
    dropped = st.sampled_from([None] * 7 * len(required) + list(required))
    return st.tuples(whole, dropped).map(
        lambda drawn: {key: value for key, value in drawn[0].items() if key != drawn[1]}
    )


def array(item: Strategy, most: int, least: int = 1) -> Strategy:
    few = st.lists(item, min_size=least, max_size=min(most, least + 2))
    return few | st.lists(item, min_size=max(0, least - 1), max_size=most + 1)


source = st.sampled_from(
    [
        *[{"id": "1"}, {"link": "https://example.com/a"}] * 4,
        {},
        {"id": "1", "link": "https://example.com/a"},
        {"link": "example.com/a"},
        {"link": "ftp://example.com/a"},
    ]
)


def media(**optional: Strategy) -> Strategy:
    return st.tuples(source, st.fixed_dictionaries({}, optional=optional)).map(
        lambda drawn: drawn[0] | drawn[1]
    )


def number(low: float, high: float) -> Strategy:
    around = st.sampled_from([low, 0.5, high, high, low - 1, high + 1])
    return around | around.map(str) | st.just("north")


CONTENTS: dict[str, Strategy] = {
    "text": record({"body": text(4096)}, {"preview_url": st.booleans()}),
    "image": media(caption=text(1024, least=0)),
    "video": media(caption=text(1024, least=0)),
    "audio": media(voice=st.booleans()),
    "document": media(caption=text(1024, least=0), filename=st.just("a.pdf")),
    "sticker": media(),
    "location": record(
        {"latitude": number(-90, 90), "longitude": number(-180, 180)}, {"name": st.just("Berlin")}
    ),
    "contacts": array(
        record(
            {"name": record({"formatted_name": text(50)})},
            {"birthday": st.sampled_from(["1815-12-10"] * 4 + ["10.12.1815", "1815-12-1"])},
        ),
        3,
    ),
    "reaction": record({"message_id": text(50), "emoji": st.sampled_from(["", "👍"])}),
}

header = st.fixed_dictionaries({"type": st.just("text"), "text": text(60)})


def message(
    kind: str, action: Strategy, body: int = 1024, required: tuple[str, ...] = ("body",)
) -> Strategy:
    parts = {"header": header, "body": record({"text": text(body)})}
    parts["footer"] = record({"text": text(60)})
    needed = {"type": st.just(kind), "action": action}
    needed |= {name: parts.pop(name) for name in required}
    return record(needed, parts)


def named(name: str, parameters: Strategy) -> Strategy:
    return record({"name": st.just(name), "parameters": parameters})


reply = record({"id": label(256), "title": label(20)})
row = record({"id": label(200), "title": label(24)}, {"description": text(72).filter(bool)})
unlike_rows = st.integers(1, 6).flatmap(
    lambda count: st.integers(0, 90).map(
        lambda first: [{"id": str(first + i), "title": "Row"} for i in range(count)]
    )
)
title = st.sampled_from(["A", "B", "é" * 24, "é" * 25])
section = record({"rows": array(row, 10) | unlike_rows, "title": title})
flow = record(
    {"flow_message_version": st.just("3"), "flow_cta": label(30)},
    {"flow_id": st.just("1"), "flow_name": st.just("book")},
)
item = record({"product_retailer_id": text(10)})
product_section = st.fixed_dictionaries({"product_items": array(item, 30), "title": title})


def cards(count: int) -> Strategy:
    card = st.fixed_dictionaries(
        {
            "body": record({"text": text(160) | st.sampled_from(["\n\n", "\n\n\n"])}),
            "action": st.just({"name": "cta_url", "parameters": {}}),
        }
    )
    drawn = st.lists(card, min_size=count, max_size=count)
    return drawn.map(
        lambda several: [{"card_index": index % 10, **one} for index, one in enumerate(several)]
    )


INTERACTIVE = st.one_of(
    message(
        "button",
        record({"buttons": array(record({"type": st.just("reply"), "reply": reply}), 3)}),
    ),
    message("list", record({"button": label(20), "sections": array(section, 10)}), body=4096),
    message(
        "cta_url",
        named(
            "cta_url", record({"display_text": label(20), "url": st.just("https://example.com")})
        ),
    ),
    message("flow", named("flow", flow)),
    message(
        "product", record({"catalog_id": text(9), "product_retailer_id": text(9)}), required=()
    ),
    message(
        "product_list",
        record({"catalog_id": text(9), "sections": array(product_section, 10)}),
        required=("header", "body"),
    ),
    message("catalog_message", record({"name": st.just("catalog_message")})),
    message("location_request_message", record({"name": st.just("send_location")})),
    message("address_message", named("address_message", st.just({"country": "IN"}))),
    message(
        "carousel", st.sampled_from([1, 2, 3, 10, 11]).flatmap(cards).map(lambda c: {"cards": c})
    ),
    message(
        "call_permission_request",
        record({"name": st.just("call_permission_request")}),
        required=(),
    ),
    message("request_contact_info", record({"name": st.just("request_contact_info")})),
    message("order_status", named("review_order", st.just({"reference_id": "17"}))),
)

parameter = st.one_of(
    record({"type": st.just("text"), "text": text(40)}, {"parameter_name": text(20)}),
    record(
        {
            "type": st.just("currency"),
            "currency": record(
                {
                    "fallback_value": text(9),
                    "code": st.sampled_from(["EUR", "EUR", "EURO", "EU"]),
                    "amount_1000": st.integers(-(10**9), 10**9),
                }
            ),
        }
    ),
    record({"type": st.just("date_time"), "date_time": record({"fallback_value": text(9)})}),
    record({"type": st.just("payload"), "payload": text(9, least=0)}),
    record({"type": st.just("coupon_code"), "coupon_code": text(9)}),
    record(
        {"type": st.just("ttl_minutes"), "ttl_minutes": st.sampled_from([0, 1, 43_200, 43_201])}
    ),
)
part = st.one_of(
    record({"type": st.sampled_from(["body", "HEADER"])}, {"parameters": array(parameter, 3, 0)}),
    record(
        {
            "type": st.just("button"),
            "sub_type": st.sampled_from(["url", "URL", "quick_reply", "copy_code"]),
            "index": st.sampled_from([0, "9", 9, 10, -1]),
        },
        {"parameters": array(parameter, 2, 0)},
    ),
)
template_card = st.fixed_dictionaries(
    {"card_index": st.sampled_from([0, 9, 10]), "components": array(part, 2, 0)}
)
TEMPLATE = record(
    {"name": text(512), "language": record({"code": st.just("en_US")})},
    {
        "components": array(
            part | record({"type": st.just("carousel"), "cards": array(template_card, 10)}), 3, 0
        )
    },
)

messages = st.one_of(
    *(st.tuples(st.just(kind), content) for kind, content in CONTENTS.items()),
    st.tuples(st.just("interactive"), INTERACTIVE),
    st.tuples(st.just("template"), TEMPLATE),
)
around = st.fixed_dictionaries(
    {},
    optional={
        "context": record({"message_id": text(50)}),
        "biz_opaque_callback_data": text(512, least=0),
    },
)


def request(kind: str, payload: dict[str, Any]) -> dict[str, Any]:
    return {"messaging_product": "whatsapp", "to": "+15550101201", "type": kind, **payload}


@settings(max_examples=300)
@given(drawn=messages, around=around)
def test_both_accept_the_same_messages(drawn, around):
    kind, content = drawn
    payload = {kind: content, **around}
    found = [str(problem) for problem in problems(kind, payload)]
    error = validate(request(kind, payload))
    assert (error is None) == (found == []), (found, error and error.details)
    assert error is None or error.code in {100, 131008, 131009}


@pytest.mark.parametrize("accepted", [True, False], ids=["accepted", "refused"])
@pytest.mark.parametrize("kind", [*CONTENTS, "interactive", "template"])
def test_the_generated_messages_are_some_good_and_some_bad(kind, accepted):
    strategy = {**CONTENTS, "interactive": INTERACTIVE, "template": TEMPLATE}[kind]
    wanted = find(
        strategy,
        lambda content: accepted == (not problems(kind, {kind: content})),
        settings=settings(phases=[Phase.generate], max_examples=1000),
    )
    assert accepted == (not problems(kind, {kind: wanted}))
