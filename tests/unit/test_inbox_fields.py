"""What each of Meta's other webhook fields means here."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waemitter.inbox.fields.effects import (
    AccountBarred,
    AccountFreed,
    Alert,
    Echo,
    History,
    NumberJudged,
    Preference,
    TemplateChanged,
    TemplateJudged,
    Told,
)
from waemitter.inbox.fields.reading import read_change
from waemitter.whatsapp.webhooks import FieldChange, parse

PAYLOADS = Path(__file__).parents[1] / "payloads"

EN = ("cart_reminder", "en_US")
EXPECTED: dict[str, list[object]] = {
    "template_status_approved": [
        TemplateChanged(*EN, "usable", "APPROVED", category="UTILITY"),
    ],
    "template_status_paused": [
        TemplateChanged(*EN, "paused", "PAUSED", "FIRST_PAUSE", timedelta(hours=3)),
    ],
    "template_status_disabled": [TemplateChanged(*EN, "ended", "DISABLED")],
    "template_status_rejected": [
        TemplateChanged(*EN, "ended", "REJECTED", "INVALID_FORMAT", category="MARKETING"),
    ],
    "template_quality_update": [
        TemplateJudged(*EN, "quality", "GREEN", "YELLOW", warning=True),
    ],
    "template_category_changed": [TemplateJudged(*EN, "category", "UTILITY", "MARKETING")],
    "template_category_impending": [
        TemplateJudged(*EN, "category", "UTILITY", "MARKETING", warning=True),
    ],
    "template_components_update": [Told("template")],
    "phone_number_quality_throughput": [
        NumberJudged("THROUGHPUT_UPGRADE", "15550104477", tier="TIER_UNLIMITED", upgraded=True),
    ],
    "phone_number_quality_2026_shape": [
        NumberJudged("ONBOARDING", "15550104477", tier="TIER_2K"),
    ],
    "phone_number_name_update": [Told("number")],
    "business_capability_update_tier": [NumberJudged("CAPABILITY", tier="TIER_10K")],
    "account_update_restriction": [
        AccountBarred(
            "ACCOUNT_RESTRICTION RESTRICTED_BIZ_INITIATED_MESSAGING",
            datetime.fromtimestamp(1793959200, UTC),
            all_messages=False,
        ),
    ],
    "account_update_violation": [Alert("ACCOUNT_VIOLATION SCAM", "WARNING")],
    "account_update_disabled": [AccountBarred("DISABLED_UPDATE DISABLE", None)],
    "account_update_reinstated": [AccountFreed("DISABLED_UPDATE REINSTATE")],
    "account_update_deleted": [AccountBarred("ACCOUNT_DELETED", None)],
    "account_alerts": [Alert("INCREASED_CAPABILITIES_ELIGIBILITY_DEFERRED", "WARNING")],
    "account_review_update": [Alert("ACCOUNT_REVIEW APPROVED", "INFORMATIONAL")],
    "security_pin_reset": [Alert("SECURITY PIN_RESET_REQUEST", "WARNING")],
    "user_preferences_stop": [
        Preference("915550101205", None, False, datetime.fromtimestamp(1793700190, UTC)),  # noqa: FBT003 marketing
    ],
    "user_preferences_resume": [
        Preference("915550101205", None, True, datetime.fromtimestamp(1793700190, UTC)),  # noqa: FBT003 marketing
    ],
    "calls_connect_user": [Told("call")],
    "calls_terminate": [Told("call")],
    "smb_app_state_sync": [Told("history")],
    "group_participants_add": [Told("group")],
    "payment_configuration_update": [Told("other")],
}


def changes(name: str) -> list[FieldChange]:
    items = parse((PAYLOADS / f"field_{name}.json").read_bytes())
    return [item for item in items if isinstance(item, FieldChange)]


@pytest.mark.parametrize("name", EXPECTED)
def test_every_documented_field_has_its_meaning(name: str) -> None:
    (change,) = changes(name)
    assert read_change(change) == EXPECTED[name]


def test_a_chunk_of_history_is_its_messages_from_either_side_with_their_times() -> None:
    (change,) = changes("history_chunk")
    (history,) = read_change(change)
    assert isinstance(history, History)
    assert len({past.wa_id for past in history.messages}) == 1
    assert [past.from_us for past in history.messages][:1] == [True]
    assert {past.type for past in history.messages} == {"text", "media_placeholder"}
    assert all(past.at is not None and past.at.tzinfo is UTC for past in history.messages)


def test_every_payload_of_a_field_is_in_the_table_above() -> None:
    names = {path.stem.removeprefix("field_") for path in PAYLOADS.glob("field_*.json")}
    apart = {
        "smb_message_echo_text",
        "history_chunk",
        "calls_status_ringing",
    }  # two told below; a status of its own
    assert names - apart == EXPECTED.keys()


def test_an_echo_is_what_a_colleague_typed_and_names_the_customer() -> None:
    (change,) = changes("smb_message_echo_text")
    (effect,) = read_change(change)
    assert isinstance(effect, Echo)
    assert (effect.wa_id, effect.user_id, effect.type) == ("15550101201", None, "text")
    assert effect.raw["text"] == {"body": "Typed by a colleague on the phone"}


def test_an_echo_to_a_person_without_a_number_goes_by_the_user_id() -> None:
    echo = {"id": "wamid.1", "to": "US.13491208655302741918", "type": "text"}
    (effect,) = read_change(change("smb_message_echoes", message_echoes=[echo]))
    assert isinstance(effect, Echo)
    assert (effect.wa_id, effect.user_id) == (None, "US.13491208655302741918")


def change(field: str, **value: Any) -> FieldChange:
    return FieldChange(field, "214700000000001", None, None, value)


@pytest.mark.parametrize(
    ("word", "state"),
    [
        *((word, "usable") for word in ("APPROVED", "REINSTATED", "UNPAUSED", "approved")),
        *((word, "ended") for word in ("REJECTED", "DISABLED", "DELETED")),
        ("PAUSED", "paused"),
    ],
)
def test_the_words_of_a_template_s_status(word: str, state: str) -> None:
    template = {"message_template_name": "sale", "message_template_language": "de"}
    (effect,) = read_change(change("message_template_status_update", event=word, **template))
    assert isinstance(effect, TemplateChanged)
    assert effect.state == state


@pytest.mark.parametrize(
    "word", ["PENDING", "FLAGGED", "IN_APPEAL", "PENDING_DELETION", "LOCKED", "ARCHIVED", "NEW"]
)
def test_other_words_of_a_template_change_nothing(word: str) -> None:
    template = {"message_template_name": "sale", "message_template_language": "de"}
    assert read_change(change("message_template_status_update", event=word, **template)) == [
        Told("template", word, "sale/de")
    ]


def test_a_pause_lasts_as_long_as_meta_says_and_without_a_word_until_it_says_more() -> None:
    template = {"message_template_name": "sale", "message_template_language": "de"}
    for title, pause in (("SECOND_PAUSE", 6), ("THIRD", None)):
        told = {"event": "PAUSED", "other_info": {"title": title}, **template}
        (effect,) = read_change(change("message_template_status_update", **told))
        assert isinstance(effect, TemplateChanged)
        assert effect.pause == (timedelta(hours=pause) if pause else None)


def test_a_quality_score_under_the_field_of_statuses_is_one_too() -> None:
    told = {"message_template_name": "sale", "new_quality_score": "RED"}
    (effect,) = read_change(change("message_template_status_update", **told))
    assert effect == TemplateJudged("sale", "", "quality", None, "RED", warning=True)


def test_a_restriction_of_all_messages_and_one_of_templates_run_to_their_own_ends() -> None:
    info = [
        {"restriction_type": "RESTRICTED_BIZ_INITIATED_MESSAGING", "expiration": 1793959200},
        {"restriction_type": "RESTRICTED_CUSTOMER_INITIATED_MESSAGING", "expiration": "x"},
    ]
    told = change("account_update", event="ACCOUNT_RESTRICTION", restriction_info=info)
    everything, templates = read_change(told)
    assert isinstance(everything, AccountBarred)
    assert isinstance(templates, AccountBarred)
    assert (everything.all_messages, everything.until) == (True, None)
    assert templates.until == datetime.fromtimestamp(1793959200, UTC)


def test_a_restriction_that_concerns_no_messages_is_an_alert() -> None:
    info = [{"restriction_type": "RESTRICTED_ADD_PHONE_NUMBER_ACTION", "expiration": 1793959200}]
    told = change("account_update", event="ACCOUNT_RESTRICTION", restriction_info=info)
    assert read_change(told) == [Alert("ACCOUNT_RESTRICTION", "WARNING")]


@pytest.mark.parametrize(
    ("value", "tier"), [(2000, "TIER_2000"), (-1, "TIER_UNLIMITED"), ("tier_1k", "TIER_1K")]
)
def test_a_tier_comes_as_a_number_or_as_a_word(value: object, tier: str) -> None:
    told = change("business_capability_update", max_daily_conversations_per_business=value)
    assert read_change(told) == [NumberJudged("CAPABILITY", tier=tier)]


def test_one_broken_preference_harms_none_of_its_neighbours() -> None:
    good = {"wa_id": "15550101201", "category": "marketing_messages", "value": "signup"}
    told = change("user_preferences", user_preferences=["x", {"value": "stop"}, good])
    assert read_change(told) == [
        Told("preference"),
        Told("preference"),
        Preference("15550101201", None, True, None),  # noqa: FBT003 marketing
    ]


def test_another_product_s_field_of_the_same_name_changes_nothing() -> None:
    foreign = FieldChange("account_update", "1", None, None, {"event": "ACCOUNT_DELETED"}, "page")
    assert read_change(foreign) == [Told("other")]


words = st.sampled_from(["", "stop", "PAUSED", "\x00", "é" * 200, "TIER_2K"])
scalars = st.none() | st.booleans() | st.integers() | words
values = st.recursive(
    scalars, lambda some: st.lists(some, max_size=3) | st.dictionaries(words, some, max_size=3)
)
keys = st.sampled_from(
    sorted(
        {
            key
            for name in EXPECTED
            for one in changes(name)
            if isinstance(one.value, dict)
            for key in one.value
        }
    )
)


@given(st.sampled_from(sorted(EXPECTED)), st.dictionaries(keys, values, max_size=4))
def test_whatever_a_value_holds_it_is_read_without_an_error(
    name: str, broken: dict[str, object]
) -> None:
    (whole,) = changes(name)
    change = FieldChange(whole.field, whole.entry_id, None, None, {**whole.value, **broken})
    assert read_change(change)
    assert read_change(FieldChange(whole.field, None, None, None, [broken]))
