"""Which number and account a webhook comes from."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest

from waemitter.whatsapp.numbers import Number, numbers_of

PAYLOADS = Path(__file__).parents[1] / "payloads"


def of(name: str) -> set[Number]:
    return numbers_of(orjson.loads((PAYLOADS / f"{name}.json").read_bytes()))


def test_a_message_s_webhook_names_its_number_its_account_and_the_phone() -> None:
    assert of("msg_text") == {Number("330900000000007", "214700000000001", "15550104477")}


def test_two_numbers_of_one_account_are_both_named() -> None:
    found = of("batch_two_numbers_one_waba")
    assert len(found) == 2
    assert len({number.account for number in found}) == 1


def test_news_of_an_account_name_no_number() -> None:
    assert of("field_account_update_disabled") == set()


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"entry": 7},
        {"entry": [None, {"id": "1"}, {"id": "1", "changes": [[], {"value": []}]}]},
        {"entry": [{"changes": [{"value": {"metadata": {"phone_number_id": []}}}]}]},
    ],
)
def test_what_is_of_another_shape_names_none(document: dict[str, object]) -> None:
    assert numbers_of(document) == set()


def test_ids_may_be_numbers_and_a_phone_may_have_blanks() -> None:
    metadata = {"phone_number_id": 7, "display_phone_number": "+1 555-010"}
    entry = {"id": 9, "changes": [{"value": {"metadata": metadata}}]}
    assert numbers_of({"entry": [entry]}) == {Number("7", "9", "1555010")}
