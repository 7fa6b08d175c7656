"""What a campaign costs, as far as Meta's statuses and an imported rate card tell. Pure.

Meta bills per delivered message, by its category and the country of the recipient's number
(per-message pricing, since July 2025), and says in its status webhooks what is billable; the price
stands on its rate cards alone. Volume tiers are not known here: it is an estimate.
"""

from __future__ import annotations

import csv
import datetime
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from decimal import Decimal, InvalidOperation
from typing import Final, NamedTuple

from waemitter.errors import UsageError
from waemitter.outbox.campaigns.quiet import country_of
from waemitter.outbox.campaigns.store import Charge, Rate

_COLUMNS: Final = ("country", "category", "price", "currency")
_COUNTRY: Final = re.compile(r"[A-Z]{2}|\*")
_CURRENCY: Final = re.compile(r"[A-Z]{3}")


class CostLine(NamedTuple):
    """Delivered messages of a country and category. Without a rate, `amount` and `currency` are None."""

    country: str
    category: str
    billable: bool
    messages: int
    amount: Decimal | None
    currency: str | None


def estimate(charges: Iterable[Charge], rates: Sequence[Rate]) -> list[CostLine]:
    """Price what was delivered, each message by the rate of the day (UTC) on which it was sent."""
    table = defaultdict[tuple[str, str], list[Rate]](list)
    for each in sorted(rates, key=lambda each: each.valid_from):
        table[each.country, each.category].append(each)
    lines = defaultdict[tuple[str, str, bool, str | None], list[int | Decimal]](
        lambda: [0, Decimal(0)]
    )
    for charge in charges:
        country = country_of(charge.sample) or "*"
        rate = _rate(table[country, charge.category] or table["*", charge.category], charge.day)
        free = not charge.billable
        currency = None if free or rate is None else rate.currency
        line = lines[country, charge.category, charge.billable, currency]
        line[0] += charge.messages
        line[1] += Decimal(0) if free or rate is None else rate.price * charge.messages
    return [
        CostLine(*key[:3], int(messages), Decimal(amount) if key[3] else _free(key[2]), key[3])
        for key, (messages, amount) in sorted(lines.items(), key=lambda item: str(item[0]))
    ]


def _free(billable: bool) -> Decimal | None:  # noqa: FBT001 a fact of the line
    return None if billable else Decimal(0)


def _rate(rates: Sequence[Rate], day: datetime.date) -> Rate | None:
    return next((rate for rate in reversed(rates) if rate.valid_from <= day), None)


def read_rates(lines: Iterable[str]) -> list[Rate]:
    """Read a rate card: CSV with the columns country (ISO 3166, or * for any other), category, price, currency.

    A further column, valid_from (YYYY-MM-DD), is for prices that change. Raises UsageError, which names the line.
    """
    reader = csv.DictReader(line.removeprefix("\ufeff") for line in lines)
    names = {name.strip().lower(): name for name in reader.fieldnames or ()}
    if missing := [name for name in _COLUMNS if name not in names]:
        raise UsageError(
            f"a rate card has the columns {', '.join(_COLUMNS)}: {missing[0]} is missing"
        )
    rates: dict[tuple[str, str, datetime.date], Rate] = {}
    for row in reader:
        cells = {name: (row[given] or "").strip() for name, given in names.items()}
        try:
            rate = _read_rate(cells)
        except ValueError as error:
            raise UsageError(f"line {reader.line_num} of the rate card: {error}") from None
        rates[rate.country, rate.category, rate.valid_from] = rate
    if not rates:
        raise UsageError("the rate card is empty")
    return list(rates.values())


def _read_rate(cells: dict[str, str]) -> Rate:
    country, currency = cells["country"].upper(), cells["currency"].upper()
    if not _COUNTRY.fullmatch(country):
        raise ValueError(f"a country is two letters or *, not {cells['country']!r}")
    if not _CURRENCY.fullmatch(currency):
        raise ValueError(f"a currency is three letters, not {cells['currency']!r}")
    if not cells["category"]:
        raise ValueError("the category is missing")
    try:
        price = Decimal(cells["price"])
    except InvalidOperation:
        price = Decimal(-1)
    if not price.is_finite() or price < 0:
        raise ValueError(f"a price is a number like 0.0456, not {cells['price']!r}")
    since = cells.get("valid_from")
    valid_from = datetime.date.fromisoformat(since) if since else datetime.date.min
    return Rate(country, cells["category"].lower(), price, currency, valid_from)
