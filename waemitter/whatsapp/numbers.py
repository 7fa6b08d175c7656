"""Which numbers and accounts a webhook comes from: its `metadata` and its entry's id say so beside each change."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple


class Number(NamedTuple):
    """A phone_number_id, its account (WABA) and the phone number in digits, as far as the webhook tells."""

    phone_number_id: str
    account: str | None
    displayed: str | None


def numbers_of(document: dict[str, Any]) -> set[Number]:
    """The numbers of a webhook's body; empty for one that names none, or is of another shape."""
    found = set[Number]()
    for entry in _objects(document.get("entry")):
        for change in _objects(entry.get("changes")):
            value = change.get("value")
            metadata = value.get("metadata") if isinstance(value, dict) else None
            if isinstance(metadata, dict) and (number := _id(metadata.get("phone_number_id"))):
                displayed = _id(metadata.get("display_phone_number")) or ""
                found.add(_number(number, _id(entry.get("id")), displayed))
    return found


@lru_cache(maxsize=256)  # each webhook names one of a few
def _number(number: str, account: str | None, displayed: str) -> Number:
    digits = "".join(each for each in displayed if each in "0123456789")
    return Number(number, account, digits or None)


def _objects(value: Any) -> list[dict[str, Any]]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _id(value: Any) -> str | None:
    """Ids are text; some come as numbers."""
    return str(value) if type(value) is int else value if isinstance(value, str) and value else None
