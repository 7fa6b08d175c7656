import re
from types import MappingProxyType

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from waemitter.errors import PayloadError
from waemitter.whatsapp.payloads import LONGEST_ECHO
from waemitter.whatsapp.requests import Recipient, normalise_recipient, render

TEXT = {"text": {"body": "Your order is on its way"}}
PHONE = "+14155550123"


def rendered(recipient=PHONE, message_type="text", payload=TEXT, echo="token"):
    return orjson.loads(
        render(recipient=recipient, message_type=message_type, payload=payload, echo=echo)
    )


def fault(**given):
    with pytest.raises(PayloadError) as caught:
        rendered(**given)
    return caught.value


def test_a_request_is_the_payload_with_what_is_ours():
    assert rendered() == {
        "messaging_product": "whatsapp",
        "to": PHONE,
        "type": "text",
        "text": {"body": "Your order is on its way"},
        "biz_opaque_callback_data": "token",
    }


@pytest.mark.parametrize(
    "payload",
    [TEXT, MappingProxyType(TEXT), orjson.dumps(TEXT), orjson.dumps(TEXT).decode()],
    ids=["dict", "mapping", "bytes", "text"],
)
def test_a_payload_may_be_an_object_or_its_json(payload):
    assert rendered(payload=payload)["text"] == TEXT["text"]


def test_unknown_keys_pass_through():
    extra = {"context": {"message_id": "wamid.A"}, "ttl": [1, {"é": None}]}
    assert rendered(payload=TEXT | extra).items() >= extra.items()


def test_the_given_payload_is_left_as_it_was():
    payload = dict(TEXT)
    rendered(payload=payload)
    assert payload == TEXT


@pytest.mark.parametrize(
    "written",
    [
        "+14155550123",
        "14155550123",
        "+1 415 555 0123",
        "+1 (415) 555-0123",
        "1.415.555.0123",
        "001 415 555 0123",
        " +1\u00a0415\u2011555\u20110123\n",
        "\u202a+1 415 555 0123\u202c",
        "(+1) 415/555/0123",
    ],
)
def test_a_phone_number_is_read_as_people_write_it(written):
    assert normalise_recipient(written) == Recipient("phone", "+14155550123")
    assert rendered(written)["to"] == "+14155550123"


@pytest.mark.parametrize("digits", ["1234567", "123456789012345"])
def test_the_shortest_and_the_longest_number(digits):
    assert normalise_recipient(digits).value == f"+{digits}"


@pytest.mark.parametrize(
    ("written", "advice"),
    [
        ("", "phone number"),
        ("+", "phone number"),
        ("123456", "6 digits"),
        ("1234567890123456", "16 digits"),
        ("0151 2345678", "country code"),
        ("+0151 2345678", "country code"),
        ("000 415 555 0123", "country code"),
        ("+49 (0) 151 2345678", "remove the (0)"),
        ("+1 415 555 0123 ext 4", "phone number"),
        ("1+4155550123", "phone number"),
        ("++14155550123", "phone number"),
        ("٠١٢٣٤٥٦٧٨٩", "phone number"),
        ("somebody", "phone number"),
        ("U.123", "phone number"),
        ("US." + "1" * 129, "phone number"),
        ("US.12-3", "phone number"),
    ],
)
def test_what_is_no_recipient_is_refused_with_advice(written, advice):
    error = fault(recipient=written)
    assert error.field == "recipient"
    assert advice in error.reason


@pytest.mark.parametrize("written", ["0151 23456789", "12345678901234567", "+49 (0) 1512345678"])
def test_no_refusal_repeats_the_number(written):
    reason = fault(recipient=written).reason
    assert not re.search(r"\d{3}", reason)


@pytest.mark.parametrize(
    "user_id",
    ["US.13491208655302741918", "us.A1", "US.ENT.11815799212886844830", "US." + "a" * 128],
)
def test_a_user_id_is_addressed_as_one(user_id):
    request = rendered(f" {user_id}\n")
    assert request["recipient"] == user_id
    assert "to" not in request


def test_a_group_is_addressed_by_its_raw_id():
    group = "Y2FwaV9ncm91cDoxNTU1MDEwNDQ3NzoxMjAzNjM0"
    request = rendered(group, payload=TEXT | {"recipient_type": "group"})
    assert (request["to"], request["recipient_type"]) == (group, "group")
    assert fault(recipient="", payload=TEXT | {"recipient_type": "group"}).field == "recipient"


def test_the_callers_own_echo_goes_behind_ours():
    payload = TEXT | {"biz_opaque_callback_data": "a|b"}
    assert rendered(payload=payload)["biz_opaque_callback_data"] == "token|a|b"


def test_an_echo_is_at_most_as_long_as_meta_keeps_it():
    longest = "é" * (LONGEST_ECHO - len("token|"))
    kept = rendered(payload=TEXT | {"biz_opaque_callback_data": longest})
    assert len(kept["biz_opaque_callback_data"]) == LONGEST_ECHO
    error = fault(payload=TEXT | {"biz_opaque_callback_data": longest + "x"})
    assert error.field == "payload.biz_opaque_callback_data"
    assert "506" in error.reason


def test_contacts_are_an_array():
    cards = [{"name": {"formatted_name": "Ada"}}]
    assert rendered(message_type="contacts", payload={"contacts": cards})["contacts"] == cards


@pytest.mark.parametrize(
    ("message_type", "payload", "field"),
    [
        ("text", "{", "payload"),
        ("text", b"\xff", "payload"),
        ("text", "[]", "payload"),
        ("text", "null", "payload"),
        ("text", {1: 2} | TEXT, "payload"),
        ("text", TEXT | {"more": {"\ud800"}}, "payload"),
        ("text", TEXT | {"more": "\ud800"}, "payload"),
        ("text", TEXT | {"more": 2**70}, "payload"),
        ("text", {}, "payload.text"),
        ("text", {"text": "hello"}, "payload.text"),
        ("text", {"text": None}, "payload.text"),
        ("text", {"text": []}, "payload.text"),
        ("contacts", {"contacts": {}}, "payload.contacts"),
        ("template", TEXT, "payload.template"),
        ("", TEXT, "message_type"),
        ("text", TEXT | {"type": "image"}, "payload.type"),
        ("text", TEXT | {"to": PHONE}, "payload.to"),
        ("text", TEXT | {"recipient": "US.1"}, "payload.recipient"),
        ("text", TEXT | {"recipient_type": "crowd"}, "payload.recipient_type"),
        ("text", TEXT | {"messaging_product": "sms"}, "payload.messaging_product"),
        ("text", TEXT | {"context": "wamid.A"}, "payload.context"),
        ("text", TEXT | {"biz_opaque_callback_data": 5}, "payload.biz_opaque_callback_data"),
    ],
)
def test_a_payload_that_cannot_be_sent_names_the_field(message_type, payload, field):
    error = fault(message_type=message_type, payload=payload)
    assert error.field == field
    assert error.reason


def test_a_payload_may_repeat_what_it_agrees_with():
    agreeing = {"messaging_product": "whatsapp", "type": "text", "recipient_type": "individual"}
    assert rendered(payload=TEXT | agreeing).items() >= agreeing.items()


words = st.text(st.characters(exclude_categories=["Cs"]))
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=8,
)


@given(
    recipient=st.text(),
    message_type=st.text(max_size=5),
    payload=st.dictionaries(
        st.sampled_from(["text", "type", "to", "context", "recipient_type"]) | st.text(), values
    )
    | st.text()
    | st.binary(),
)
def test_anything_is_rendered_or_refused(recipient, message_type, payload):
    try:
        body = render(recipient=recipient, message_type=message_type, payload=payload, echo="token")
    except PayloadError:
        return
    assert orjson.loads(body)["biz_opaque_callback_data"].startswith("token")


@given(content=st.dictionaries(words, values))
def test_content_passes_through_whole(content):
    content |= TEXT["text"]
    content.pop("preview_url", None)  # the one other key that is checked
    assert rendered(payload={"text": content})["text"] == content


def test_what_meta_would_refuse_for_a_limit_is_not_rendered():
    assert fault(payload={"text": {"body": "x" * 4097}}).field == "payload.text.body"
