"""What routes are offered of webhooks' fields, and what is read of the past."""

from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from waemitter.inbox.fields.offering import Offer, offer_of_status, offers_of
from waemitter.inbox.fields.past import HISTORY, as_history, past_of, progress_of
from waemitter.whatsapp.webhooks import FieldChange, Message, Status, parse

PAYLOADS = Path(__file__).parents[1] / "payloads"
WACID = "wacid.HBgLMTU1NTAxMDEyMDEVAgASGBQzQTAx"
NUMBER, ACCOUNT, MARA = "330900000000007", "214700000000001", "15550101201"


def item(name: str) -> Any:
    (found,) = parse((PAYLOADS / f"field_{name}.json").read_bytes())
    return found


def offer(name: str) -> Offer:
    (found,) = offers_of(item(name), "sha256:1")
    return found


def changed(field: str, value: Any) -> FieldChange:
    return FieldChange(field, ACCOUNT, None, NUMBER, value)


def call(**more: Any) -> Offer:
    given = {"id": "wacid.1", "event": "terminate", "from": MARA, "timestamp": "1793700798", **more}
    (found,) = offers_of(changed("calls", {"calls": [given]}), "sha256:1")
    return found


def test_a_call_is_a_turn_of_whom_it_concerns() -> None:
    connect = offer("calls_connect_user")
    assert connect[:9] == (
        *(NUMBER, ACCOUNT, f"{WACID}:connect", "calls"),
        *(MARA, None, None, "Mara Quist", 1793700791.0),
    )
    document = orjson.loads(connect.payload)
    assert document["value"]["session"]["sdp_type"] == "offer"
    assert (document["type"], document["field"], document["event"]) == ("calls", "calls", "connect")
    assert orjson.loads(offer("calls_terminate").payload)["event"] == "terminate"


@pytest.mark.parametrize(
    ("more", "event", "wa_id"),
    [
        ({}, "missed", MARA),
        ({"duration": 0, "status": "FAILED"}, "missed", MARA),
        ({"duration": 12}, "terminate", MARA),
        ({"event": "connect"}, "connect", MARA),
        ({"direction": "BUSINESS_INITIATED", "to": "15550101202"}, "terminate", "15550101202"),
    ],
)
def test_a_call_that_nobody_took_is_missed(more: Any, event: str, wa_id: str) -> None:
    found = call(**more)
    assert (orjson.loads(found.payload)["event"], found.wa_id) == (event, wa_id)


def test_who_calls_without_a_number_is_known_by_the_user_id() -> None:
    assert call(**{"from": "US.13491208655302741918"})[4:6] == (None, "US.13491208655302741918")
    assert call(**{"from": None, "from_user_id": "US.1"})[4:6] == (None, "US.1")


def test_what_becomes_of_our_own_call_is_offered_too() -> None:
    ringing = item("calls_status_ringing")
    assert isinstance(ringing, Status)
    found = offer_of_status(ringing)
    assert found is not None
    assert found[2:6] == (f"{WACID}:ringing", "calls", MARA, None)


def test_another_change_is_of_a_group_or_of_the_account() -> None:
    group, account = offer("group_participants_add"), offer("security_pin_reset")
    assert group.group_id == "Y2FwaV9ncm91cDoxNTU1MDEwNDQ3NzoxMjAzNjM0"
    assert (account.account, account.wa_id, account.group_id) == (ACCOUNT, None, None)
    assert orjson.loads(account.payload)["event"] == "pin_reset_request"
    assert offer("user_preferences_stop").wa_id is not None


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=4),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    ("calls", "contacts", "groups", "history", "threads", "messages", "id", "from")
                ),
                inner,
                max_size=4,
            )
        ),
        max_leaves=12,
    )
)
def test_whatever_a_value_is_it_can_be_offered(value: Any) -> None:
    for field in ("calls", "history", "flows"):
        for found in offers_of(changed(field, value), "sha256:1"):
            assert orjson.loads(found.payload)["field"] == field
    if isinstance(value, dict):
        past_of(value)
        progress_of(value)


def test_a_chunk_of_history_tells_who_wrote_what() -> None:
    value = item("history_chunk").value
    assert progress_of(value) == "phase 0, 55 %"
    ours, placeholder = past_of(value)
    assert (ours.wa_id, ours.from_us, ours.type) == (MARA, True, "text")
    assert (placeholder.wa_id, placeholder.from_us) == (MARA, False)
    assert placeholder.type == "media_placeholder"


@pytest.mark.parametrize(
    ("raw", "other", "from_us"),
    [
        ({"from": MARA}, MARA, False),
        ({"from": "15550104477", "to": MARA}, MARA, True),
        ({"from": "US.1"}, "US.1", False),
    ],
)
def test_a_file_of_the_past_comes_by_itself(raw: Any, other: str, *, from_us: bool) -> None:
    document = {
        "field": HISTORY,
        "value": {"messages": [{"id": "wamid.1", "type": "image", **raw}]},
    }
    (message,) = parse(orjson.dumps({"entry": [{"changes": [document]}]}))
    assert isinstance(message, Message)
    (past,) = past_of(as_history(message).value)
    assert (past.wa_id or past.user_id, past.from_us, past.type) == (other, from_us, "image")
