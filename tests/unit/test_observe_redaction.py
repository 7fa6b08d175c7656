import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from waemitter.observe.redaction import MASK, is_secret, redact, redact_text

UUID = "00000000-1111-4222-8333-444455556666"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("to +4915112345678 now", f"to {MASK} now"),
        ("to 14155550123", f"to {MASK}"),
        ("call +1 (415) 555-0123.", f"call {MASK}."),
        ("call (415) 555-0123.", f"call {MASK}."),
        ("wamid.HBgLMTQxNTU1NTAxMjMVAgARGBI= not found", f"{MASK} not found"),
        ("Authorization: Bearer abcdef", f"Authorization: {MASK}"),
        ("token EAAGm0PX4ZCpsBAKZCbZA9x is expired", f"token {MASK} is expired"),
        ("postgres://app:s3cret@db/app", f"postgres://{MASK}@db/app"),
        (f"{UUID} and 14155550123", f"{UUID} and {MASK}"),
    ],
)
def test_what_must_not_be_logged_is_masked_inside_text(text, shown):
    assert redact_text(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        UUID,
        f"request {UUID} ended",
        "9f86d081884c7d659a2feaa0c55ad015",
        "http://127.0.0.1:8080",
        "2026-07-01T09:30:00Z",
        "(#131026) Message undeliverable",
        "sender.py:110 in run",
        "order-17",
    ],
)
def test_what_an_operator_needs_stays(text):
    assert redact_text(text) == text


@pytest.mark.parametrize(
    "key",
    [
        *("access_token", "accessToken", "token", "app_secret", "password", "Authorization"),
        *("X-Hub-Signature-256", "body", "payload", "phone", "phone_number", "recipient_id"),
        *("wa_id", "wamid", "whatsapp_message_id", "to", "from", "api_key", "set-cookie"),
    ],
)
def test_a_secret_key_hides_its_whole_value(key):
    assert redact({key: 4915112345678}) == {key: MASK}
    assert redact({key: {"any": "thing"}}) == {key: MASK}


@pytest.mark.parametrize(
    "key", ["message_id", "phone_number_id", "tokens", "correlation_id", "bytes", "reason", "event"]
)
def test_other_keys_are_no_secret(key):
    assert not is_secret(key)


def test_nested_values_are_masked_and_unknown_types_become_text():
    fields = {
        "outer": {"to": "1", "list": ["14155550123", b"abc", None]},
        "error": ValueError("no such user 14155550123"),
        "nothing": None,
    }
    assert redact(fields) == {
        "outer": {"to": MASK, "list": [MASK, "[3 bytes]", None]},
        "error": f"no such user {MASK}",
    }


@given(
    before=st.text(alphabet=st.characters(exclude_categories=["Nd", "Cs"], max_codepoint=0x2FF)),
    number=st.from_regex(r"\+?[1-9][0-9]{7,14}", fullmatch=True),
    after=st.text(alphabet=st.characters(exclude_categories=["L", "Nd", "Cs"])),
)
def test_no_telephone_number_survives_among_words(before, number, after):
    digits = number.removeprefix("+")
    shown = orjson.dumps(redact({"reason": f"{before} {number}{after}"})).decode()
    assert digits not in shown
