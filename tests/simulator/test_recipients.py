from base64 import b64decode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waemitter.simulator.ids import Ids, display_phone_number
from waemitter.simulator.recipients import recipient_of, wa_id


@pytest.mark.parametrize(
    ("typed", "normal"),
    [
        ("+1 (555) 010-1201", "15550101201"),
        ("15550101201", "15550101201"),
        ("+55 11 90000-0004", "551100000004"),
        ("+52 55 0010 1201", "5215500101201"),
        ("+521 55 0010 1201", "5215500101201"),
    ],
)
def test_numbers_become_wa_ids(typed, normal):
    assert wa_id(typed) == normal


def test_contacts_tell_what_was_typed_and_who_it_is():
    number = recipient_of({"to": "+1 (555) 010-1201"})
    assert number.contact() == {"input": "+1 (555) 010-1201", "wa_id": "15550101201"}
    user = recipient_of({"recipient": "US.134912"})
    assert user.contact() == {"input": "US.134912", "user_id": "US.134912"}


def test_a_number_wins_over_a_user_id():
    assert recipient_of({"to": "15550101201", "recipient": "US.134912"}).kind == "phone"


def test_a_wamid_holds_the_users_digits_and_its_direction():
    outbound = b64decode(Ids().outbound("15550101277").removeprefix("wamid."))
    assert outbound.startswith(b"\x1c\x18\x0b15550101277\x15\x02\x00\x11\x18\x12")
    assert len(outbound) == 39
    inbound = b64decode(Ids().inbound("15550101201").removeprefix("wamid."))
    assert inbound.startswith(b"\x1c\x18\x0b15550101201\x15\x02\x00\x12\x18\x143A")


@given(st.sets(st.from_regex(r"[0-9]{6,16}", fullmatch=True)))
def test_a_business_number_is_never_a_real_one(numbers):
    for number in numbers:
        shown = display_phone_number(number)
        assert len(shown) == 11
        assert shown.startswith("1000")
