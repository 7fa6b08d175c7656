"""Rate cards as they are imported, and what delivered messages cost by them."""

from __future__ import annotations

import datetime
from decimal import Decimal

import pytest

from waemitter.errors import UsageError
from waemitter.outbox.campaigns.costs import CostLine, estimate, read_rates
from waemitter.outbox.campaigns.store import Charge, Rate

CARD = """\
country,category,price,currency,valid_from
US,marketing,0.025,USD,
us,Marketing,0.030,usd,2026-04-01
*,marketing,0.06,USD,
DE,utility,0.05,EUR,
"""
DAY = datetime.date(2026, 3, 31)


def charge(category: str = "marketing", *, to: str = "+14155550123", **more: object) -> Charge:
    known = Charge(category, billable=True, day=DAY, messages=10, sample=to)
    return known._replace(**more)  # type: ignore[arg-type]


def line(*facts: object, billable: bool) -> CostLine:
    country, category, messages, amount, currency = facts
    return CostLine(country, category, billable, messages, amount, currency)  # type: ignore[arg-type]


def test_each_message_costs_what_the_card_of_its_day_says_of_its_country_and_category():
    rates = read_rates(CARD.splitlines())
    lines = estimate(
        [
            charge(),
            charge(messages=5, to="+12125550123"),
            charge(day=datetime.date(2026, 4, 1)),
            charge(to="+4917012345678"),
            charge("utility", to="+4917012345678"),
            charge("utility", billable=False, to="+4917012345678"),
            charge("authentication"),
        ],
        rates,
    )
    assert lines == [
        line("DE", "marketing", 10, Decimal("0.60"), "USD", billable=True),
        line("DE", "utility", 10, Decimal(0), None, billable=False),
        line("DE", "utility", 10, Decimal("0.50"), "EUR", billable=True),
        line("US", "authentication", 10, None, None, billable=True),
        line("US", "marketing", 25, Decimal("0.675"), "USD", billable=True),
    ]


def test_a_rate_that_is_not_valid_yet_prices_nothing():
    rates = [Rate("US", "marketing", Decimal(1), "USD", datetime.date(2027, 1, 1))]
    (line,) = estimate([charge()], rates)
    assert (line.amount, line.currency) == (None, None)


@pytest.mark.parametrize(
    ("card", "complaint"),
    [
        ("", "country is missing"),
        ("country,category,price\n", "currency is missing"),
        ("country,category,price,currency\n", "empty"),
        ("country,category,price,currency\nUSA,marketing,1,USD\n", "line 2 .* two letters or"),
        ("country,category,price,currency\nUS,marketing,free,USD\n", "line 2 .* 'free'"),
        ("country,category,price,currency\nUS,marketing,-1,USD\n", "'-1'"),
        ("country,category,price,currency\nUS,marketing,NaN,USD\n", "'NaN'"),
        ("country,category,price,currency\nUS,,1,USD\n", "category is missing"),
        ("country,category,price,currency\nUS,marketing,1,dollars\n", "three letters"),
        ("country,category,price,currency,valid_from\nUS,marketing,1,USD,soon\n", "line 2"),
        ("country,category,price,currency\nUS\n", "line 2"),
    ],
)
def test_a_card_that_is_wrong_says_where(card, complaint):
    with pytest.raises(UsageError, match=complaint):
        read_rates(card.splitlines(keepends=True))
