"""Quiet hours: no campaign's message leaves while the recipient's own clock shows them. Pure.

Where a recipient lives is told by the number alone: libphonenumber's data lead from its prefix to a
time zone. schema.sql (`awake`) moves a row that falls into the hours to their end.
"""

from __future__ import annotations

import datetime
import re
from typing import Final, NamedTuple

import phonenumbers
from phonenumbers.timezone import UNKNOWN_TIMEZONE
from phonenumbers.tzdata import TIMEZONE_DATA, TIMEZONE_LONGEST_PREFIX

from waemitter.errors import UsageError

_HOURS: Final = re.compile(r"\s*(\d{1,2}):(\d{2})\s*-\s*(\d{1,2}):(\d{2})\s*")


class QuietHours(NamedTuple):
    """From `start` on, and not from `end` on, by the recipient's clock; over midnight when `start` is later."""

    start: datetime.time
    end: datetime.time


def parse_quiet_hours(text: str) -> QuietHours:
    """Read `21:00-08:00`. Raises UsageError."""
    found = _HOURS.fullmatch(text)
    try:
        if found is None:
            raise ValueError  # noqa: TRY301 one complaint for both
        hour, minute, end_hour, end_minute = map(int, found.groups())
        hours = QuietHours(datetime.time(hour, minute), datetime.time(end_hour, end_minute))
    except ValueError:
        raise UsageError(f"quiet hours are written like 21:00-08:00, not {text!r}") from None
    if hours.start == hours.end:
        raise UsageError("quiet hours that begin when they end would never let a message leave")
    return hours


def zone_of(address: str) -> str | None:
    """The IANA time zone of a phone number (`+14155550123`) or business-scoped user id (`US.…`); None = unknown.

    Of a number that may be in several zones, as mobile numbers of large countries, it is the first that
    the longest known prefix leads to.
    """
    if address.startswith("+"):
        return _zone(address[1:])
    number = phonenumbers.example_number(address[:2].upper())
    return None if number is None else _zone(f"{number.country_code}{number.national_number}")


def _zone(digits: str) -> str | None:
    """As libphonenumber has it, which goes by the prefix alone too, but reads all of it first: a hundred times the cost."""
    for length in range(TIMEZONE_LONGEST_PREFIX, 0, -1):
        if zones := TIMEZONE_DATA.get(digits[:length]):
            return None if zones[0] == UNKNOWN_TIMEZONE else zones[0]
    return None


def country_of(address: str) -> str | None:
    """The ISO 3166 code of the country of a phone number or business-scoped user id; None = unknown."""
    if not address.startswith("+"):
        return address[:2].upper()
    try:
        return phonenumbers.region_code_for_number(phonenumbers.parse(address))
    except phonenumbers.NumberParseException:
        return None
