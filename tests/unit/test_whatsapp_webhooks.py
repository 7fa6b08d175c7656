import json
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from waemitter.whatsapp.webhooks import (
    ErrorNotice,
    FieldChange,
    Malformed,
    Message,
    NotJson,
    Status,
    document_of,
    parse,
    succession,
    tapped,
)

PAYLOADS = Path(__file__).parents[1] / "payloads"
BODIES = sorted(
    path
    for path in PAYLOADS.glob("*.json")
    if path.stem.split("_")[0] in {"msg", "status", "value", "batch", "field"}
)
USUAL = {"msg": Message, "status": Status, "value": ErrorNotice, "field": FieldChange}
UNUSUAL = {
    "batch_200_statuses": {Status: 200},
    "batch_many_messages_one_value": {Message: 3},
    "batch_two_numbers_one_waba": {Message: 2},
    "field_calls_status_ringing": {Status: 1},
    "status_failed_132015_paced_drop": {Status: 3},
    "status_group_aggregated": {Status: 3},
    "status_out_of_order_batch": {Status: 3},
}


def body(value, *, field="messages", **top) -> bytes:
    entry = {"id": "WABA", "changes": [{"field": field, "value": value}]}
    return orjson.dumps({"object": "whatsapp_business_account", "entry": [entry]} | top)


def read(value, **envelope) -> list[Any]:
    return list(parse(body(value, **envelope)))


def stored(name) -> list[Any]:
    return list(parse((PAYLOADS / f"{name}.json").read_bytes()))


def only(items):
    (item,) = items
    return item


@pytest.mark.parametrize("path", BODIES, ids=lambda path: path.stem)
def test_every_stored_webhook_gives_its_items(path):
    expected = UNUSUAL.get(path.stem) or {USUAL[path.stem.split("_")[0]]: 1}
    assert Counter(map(type, parse(path.read_bytes()))) == expected


def test_a_status_is_read_whole():
    status = only(stored("status_sent_pricing_utility"))
    assert status == Status(
        phone_number_id="330900000000007",
        wamid="wamid.HBgLMTU1NTAxMDEyMDEVAgARGBI5RjAxREZDRDgzRkU0NjcxNjQA",
        status="sent",
        timestamp=datetime.fromtimestamp(1793700385, UTC),
        recipient_id="15550101201",
        participant=None,
        kind=None,
        echo=None,
        pricing_category="utility",
        billable=True,
        errors=[],
        raw=status.raw,
    )


def test_a_status_brings_our_echo_back():
    (status,) = stored("status_delivered_opaque")
    assert status.echo == status.raw["biz_opaque_callback_data"] != ""


def test_a_failed_status_has_its_errors():
    (status,) = stored("status_failed_131026_undeliverable")
    assert [error["code"] for error in status.errors] == [131026]


def test_the_members_of_a_group_are_told_apart():
    statuses = stored("status_group_aggregated")
    assert len({status.wamid for status in statuses}) == 1
    assert [status.participant for status in statuses] == [
        "15550101301",
        "15550101302",
        "15550101303",
    ]
    other = {"id": "w", "status": "read", "participant_recipient_id": "1"}
    assert only(read({"statuses": [other]})).participant == "1"


def test_a_status_of_a_call_is_told_by_its_kind():
    (status,) = stored("field_calls_status_ringing")
    assert (status.kind, status.status) == ("call", "RINGING")


def test_statuses_keep_the_order_of_the_body():
    assert [status.status for status in stored("status_out_of_order_batch")] == [
        "read",
        "sent",
        "delivered",
    ]


def test_a_message_finds_its_contact_by_id_not_by_position():
    first, second, third = stored("batch_many_messages_one_value")
    assert first.contact == second.contact
    assert [first.contact["wa_id"], third.contact["wa_id"]] == [first.sender, third.sender]
    assert (first.type, first.timestamp) == ("text", datetime.fromtimestamp(1793700665, UTC))


def test_every_number_keeps_its_own_messages():
    first, second = stored("batch_two_numbers_one_waba")
    assert first.phone_number_id != second.phone_number_id


def test_a_user_without_a_phone_is_known_by_the_user_id():
    raw = {"id": "w", "from_user_id": "US.1", "type": "text"}
    contact = {"user_id": "US.1", "profile": {"username": "noor"}}
    message = only(read({"messages": [raw], "contacts": [{}, contact]}))
    assert (message.sender, message.user_id, message.contact) == (None, "US.1", contact)


def test_a_user_id_in_the_place_of_the_phone_is_recognised():
    message = only(read({"messages": [{"id": "w", "from": "US.1349", "type": "text"}]}))
    assert (message.sender, message.user_id) == (None, "US.1349")


def test_the_contact_tells_the_user_id_of_a_phone():
    contact = {"wa_id": "15550101201", "user_id": "US.1"}
    message = only(read({"messages": [{"id": "w", "from": "15550101201"}], "contacts": [contact]}))
    assert (message.sender, message.user_id, message.type) == ("15550101201", "US.1", "unknown")


def test_errors_of_the_whole_value_are_a_notice():
    notice = only(stored("value_errors_130429"))
    assert (notice.phone_number_id, notice.field) == ("330900000000007", "messages")
    assert notice.errors[0]["code"] == 130429


def test_messages_statuses_and_errors_of_one_value_are_all_read():
    value = {
        "metadata": {"phone_number_id": 7},
        "messages": [{"id": "m"}],
        "statuses": [{"id": "s", "status": "read"}],
        "errors": [{"code": 130429}],
    }
    items = read(value)
    assert Counter(map(type, items)) == {Message: 1, Status: 1, ErrorNotice: 1}
    assert {item.phone_number_id for item in items} == {"7"}


def test_a_change_of_the_account_has_its_entry_and_time():
    change = only(stored("field_account_update_restriction"))
    assert (change.field, change.entry_id) == ("account_update", "214700000000001")
    assert change.time == datetime.fromtimestamp(1793700170, UTC)
    assert change.phone_number_id is None
    assert change.value["event"] == "ACCOUNT_RESTRICTION"


@pytest.mark.parametrize("value", [{"new": 1}, {"messages": []}, "text", None, [1]])
def test_what_is_unknown_is_handed_on(value):
    change = only(read(value, field="invented_in_2027"))
    assert (change.field, change.value) == ("invented_in_2027", value)


def test_new_words_survive():
    status = only(read({"statuses": [{"id": "w", "status": "teleported", "new": 1}]}))
    assert (status.status, status.raw["new"], status.timestamp) == ("teleported", 1, None)


def test_unknown_keys_beside_messages_are_handed_on_too():
    message, change = read({"messages": [{"id": "w"}], "invented": 1})
    assert isinstance(message, Message)
    assert isinstance(change, FieldChange)


def test_a_body_without_object_counts_as_whatsapp():
    document = json.loads((PAYLOADS / "msg_text.json").read_bytes())
    del document["object"]
    assert isinstance(only(parse(orjson.dumps(document))), Message)


def test_a_name_beside_the_changes_is_found():
    entry = {"id": "1", "field": "account_update", "changes": [{"value": {"event": "X"}}]}
    assert only(parse(orjson.dumps({"entry": [entry]}))).field == "account_update"


def test_another_products_messages_are_not_read_as_ours():
    change = only(read({"messages": [{"id": "w"}]}, object="instagram"))
    assert (type(change), change.product) == (FieldChange, "instagram")
    entry = {"id": "1", "messaging": [{}]}
    change = only(parse(orjson.dumps({"object": "page", "entry": [entry]})))
    assert (change.product, change.value) == ("page", entry)


@pytest.mark.parametrize(
    "broken",
    [
        None,
        "text",
        {},
        {"id": None, "status": "read"},
        {"id": "w"},
        {"id": "", "status": "read"},
        {"id": "w", "status": True},
    ],
)
def test_one_broken_status_harms_no_other(broken):
    good = {"id": "w", "status": "read"}
    first, second, third = read({"statuses": [good, broken, good]})
    assert (first.wamid, third.wamid) == ("w", "w")
    assert isinstance(second, Malformed)
    assert second.raw == broken


@pytest.mark.parametrize("broken", [None, "text", {}, {"id": []}])
def test_one_broken_message_harms_no_other(broken):
    first, second = read({"messages": [broken, {"id": "w"}], "contacts": "none"})
    assert isinstance(first, Malformed)
    assert second.wamid == "w"


@pytest.mark.parametrize(
    "document",
    [
        {"entry": None},
        {"object": "whatsapp_business_account"},
        {"entry": [7]},
        {"entry": [{}]},
        {"entry": [{"changes": [None]}]},
        {"object": "page", "entry": [{"changes": ["text"]}]},
        {"entry": [{"changes": [{"field": "messages", "value": {"messages": {}}}]}]},
        {"entry": [{"changes": [{"field": "messages", "value": {"statuses": 1}}]}]},
    ],
)
def test_a_broken_envelope_is_reported_not_raised(document):
    assert isinstance(only(parse(orjson.dumps(document))), Malformed)


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b"null", b'"text"', b"\xff", b"[" * 5000])
def test_what_is_no_json_object_is_refused(raw):
    with pytest.raises(NotJson):
        parse(raw)


@pytest.mark.parametrize(
    "timestamp", ["", "soon", -(10**30), "1" * 5000, 1e300, [], {}, "1793700000000000"]
)
def test_a_nonsense_timestamp_is_none(timestamp):
    raw = {"id": "w", "status": "read", "timestamp": timestamp}
    text = json.dumps({"entry": [{"changes": [{"value": {"statuses": [raw]}}]}]})
    assert only(parse(text.encode())).timestamp is None


any_json = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)


def nodes(document):
    """Every place in a document where something else can be put."""
    pairs = document.items() if isinstance(document, dict) else enumerate(document)
    for key, child in list(pairs):
        yield document, key
        if isinstance(child, dict | list):
            yield from nodes(child)


@given(data=st.data(), path=st.sampled_from(BODIES))
def test_a_mutated_webhook_never_raises(data, path):
    document = json.loads(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        parent, key = data.draw(st.sampled_from(list(nodes(document))[:400]))
        parent[key] = data.draw(any_json)
    for item in parse(orjson.dumps(document, option=orjson.OPT_NON_STR_KEYS)):
        assert isinstance(item, Status | Message | ErrorNotice | FieldChange | Malformed)


@given(st.binary())
def test_any_bytes_are_read_or_refused(raw):
    try:
        parse(raw)
    except NotJson:
        return


def test_a_customer_who_changed_the_number_goes_by_the_new_one():
    assert succession(only(stored("msg_system_user_changed_number"))) == ("15550101299", None)
    assert succession(only(stored("msg_system_identity_changed"))) is None
    assert succession(only(stored("msg_text"))) is None
    system = {"type": "user_changed_user_id", "user_id": "US.2"}
    raw = {"id": "w", "from_user_id": "US.1", "type": "system", "system": system}
    assert succession(only(read({"messages": [raw]}))) == (None, "US.2")


@pytest.mark.parametrize("path", BODIES, ids=lambda path: path.stem)
def test_an_item_survives_as_a_webhook_of_its_own(path):
    for item in parse(path.read_bytes()):
        assert only(parse(orjson.dumps(document_of(item)))) == item


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        (rb"\u0000", "\ufffd"),
        (rb"\ud83d", "\ufffd"),
        (rb"\ud83d\ude00", "\U0001f600"),
        (rb"\\u0000", r"\u0000"),
    ],
)
def test_what_no_database_stores_is_replaced(written, kept):
    raw = body({"messages": [{"id": "w", "text": {"body": "here"}}]}).replace(b"here", written)
    assert only(parse(raw)).raw["text"]["body"] == kept


def test_a_number_that_no_double_holds_harms_no_neighbour():
    raw = body({"messages": [{"id": "w", "n": 7777}, {"id": "v"}]}).replace(b"7777", b"1e999")
    items: list[Any] = list(parse(raw))
    first, second = items
    assert (first.raw["n"], second.wamid) == (None, "v")


def test_an_id_that_fits_no_index_is_no_id():
    assert isinstance(only(read({"messages": [{"id": "w" * 1025}]})), Malformed)


def test_a_tap_on_a_button_is_told_from_words():
    taps = ["msg_button_template_quick_reply", "msg_interactive_list_reply", "msg_text"]
    assert [tapped(only(stored(name))) for name in taps] == [True, True, False]
