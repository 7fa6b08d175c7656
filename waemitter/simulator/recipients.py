"""Whom a message is for: numbers as people type them, and ids of users without a number."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal

from waemitter.simulator.shapes import bad_parameter, bad_value, missing

_DECORATION = str.maketrans("", "", "+ -().\u00a0")
_BUSINESS_SCOPED_ID = re.compile(r"[A-Z]{2}\.(ENT\.)?[A-Za-z0-9]{1,128}")
_FEWEST_DIGITS, _MOST_DIGITS = 6, 15
_BRAZILIAN_MOBILE = re.compile(r"(55\d{2})9(\d{8})")
_MEXICAN_WITHOUT_ONE = re.compile(r"52(\d{10})")


@dataclass(frozen=True, slots=True)
class Recipient:
    """`typed` is what the sender wrote, `id` what webhooks call the recipient."""

    typed: str
    id: str
    kind: Literal["phone", "user_id", "group"]

    def contact(self) -> dict[str, str]:
        """Return the item of `contacts[]` in the reply; one known by id alone has no wa_id."""
        key = "user_id" if self.kind == "user_id" else "wa_id"
        return {"input": self.typed, key: self.id}


def recipient_of(body: dict[str, Any]) -> Recipient:
    """Return the recipient of a message body; `to` wins over `recipient`, as Meta documents.

    Raises `Refusal`: 131008 without any, 131009 for what is no number or id.
    """
    to = body.get("to")
    if to is None or to == "":
        user = body.get("recipient")
        if user is None:
            raise missing("to")
        if not isinstance(user, str) or not _BUSINESS_SCOPED_ID.fullmatch(user):
            raise bad_value("recipient is not a valid business-scoped user id.")
        return Recipient(user, user, "user_id")
    if isinstance(to, bool) or not isinstance(to, str | int):
        raise bad_parameter("Param to must be a string.")
    typed = str(to)
    if body.get("recipient_type") == "group":
        return Recipient(typed, typed, "group")
    return Recipient(typed, wa_id(typed), "phone")


def wa_id(typed: str) -> str:
    """Return the number as WhatsApp knows it: bare digits, in Brazil and Mexico not those dialled.

    Raises `Refusal` (131009) for what is no phone number.
    """
    digits = typed.translate(_DECORATION)
    if not (digits.isascii() and digits.isdigit()):
        raise bad_value("to is not a valid phone number.")
    if not _FEWEST_DIGITS <= len(digits) <= _MOST_DIGITS:
        raise bad_value("to is not a valid phone number: wrong number of digits.")
    if brazilian := _BRAZILIAN_MOBILE.fullmatch(digits):
        return brazilian[1] + brazilian[2]
    if mexican := _MEXICAN_WITHOUT_ONE.fullmatch(digits):
        return f"521{mexican[1]}"
    return digits
