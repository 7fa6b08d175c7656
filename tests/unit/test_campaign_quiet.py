"""Quiet hours as they are written, and the clock and the country that a number tells of."""

from __future__ import annotations

import datetime

import phonenumbers
import pytest
from phonenumbers import timezone

from waemitter.errors import UsageError
from waemitter.outbox.campaigns.quiet import country_of, parse_quiet_hours, zone_of


def test_quiet_hours_are_read():
    hours = parse_quiet_hours(" 21:00 - 8:30 ")
    assert (hours.start, hours.end) == (datetime.time(21, 0), datetime.time(8, 30))


@pytest.mark.parametrize("text", ["", "21-8", "21:00", "25:00-08:00", "21:60-08:00", "9pm-8am"])
def test_what_are_no_hours_is_told(text):
    with pytest.raises(UsageError, match="21:00-08:00"):
        parse_quiet_hours(text)


def test_hours_without_an_end_are_refused():
    with pytest.raises(UsageError, match="never"):
        parse_quiet_hours("08:00-08:00")


@pytest.mark.parametrize(
    ("address", "zone", "country"),
    [
        ("+14155550123", "America/Los_Angeles", "US"),
        ("+12125550123", "America/New_York", "US"),
        ("+4917012345678", "Europe/Berlin", "DE"),
        ("+919876543210", "Asia/Calcutta", "IN"),
        ("+5511987654321", "America/Sao_Paulo", "BR"),
        ("+77011234567", "Asia/Almaty", "KZ"),
        ("+18095551234", "America/Santo_Domingo", "DO"),
        ("US.13491208655302741918", None, "US"),
        ("DE.ENT.11815799212886844830", "Europe/Berlin", "DE"),
        ("+9991234567", None, None),
        ("+0", None, None),
    ],
)
def test_a_number_tells_its_clock_and_its_country(address, zone, country):
    found = zone_of(address)
    assert found == zone or (zone is None and address.startswith("US.") and found is not None)
    assert country_of(address) == country


@pytest.mark.parametrize("kind", ["MOBILE", "FIXED_LINE", "TOLL_FREE", "VOIP"])
def test_a_number_s_zone_is_the_one_that_libphonenumber_knows(kind):
    numbers = {
        region: phonenumbers.example_number_for_type(
            region, getattr(phonenumbers.PhoneNumberType, kind)
        )
        for region in phonenumbers.SUPPORTED_REGIONS
    }
    for region, number in numbers.items():
        if number is None:
            continue
        address = phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)
        known = timezone.time_zones_for_geographical_number(number)[0]
        assert (region, zone_of(address) or timezone.UNKNOWN_TIMEZONE) == (region, known)
