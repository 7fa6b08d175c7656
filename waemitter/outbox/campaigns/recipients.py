"""Who gets a campaign's message, as people list them: a CSV file whose further columns are the parameters.

Pure. One bad line rejects itself alone, with its reason; only a list that cannot be read at all is an error.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from types import MappingProxyType
from typing import Final, NamedTuple

from waemitter.errors import PayloadError, UsageError
from waemitter.whatsapp.requests import normalise_recipient

NAMES: Final = (
    "recipient",
    "phone",
    "phone_number",
    "phonenumber",
    "to",
    "number",
    "mobile",
    "msisdn",
    "wa_id",
)
"""Headers of the column with the recipient, in any case; the first of these that is there."""

_DELIMITERS: Final = (",", ";", "\t")
_NONE: Final[Mapping[str, str]] = MappingProxyType({})


class Recipient(NamedTuple):
    """As listed, not checked yet; the parameters fill the message's `{{names}}`."""

    address: str
    parameters: Mapping[str, str] = _NONE


class Rejection(NamedTuple):
    """A recipient that gets nothing, as listed, and why."""

    recipient: str
    reason: str


@dataclass(frozen=True, slots=True)
class Listing:
    """A list that is read while it is iterated; `columns` are the names of the parameters."""

    columns: tuple[str, ...]
    entries: Iterator[Recipient | Rejection] = field(repr=False)


def read_csv(lines: Iterable[str]) -> Listing:
    """Read a list of recipients: comma, semicolon or tab; quotes as CSV has them; blank lines are skipped.

    The first line names the columns; one of them is the recipient's (`NAMES`). Without such a line,
    that is when it begins with a phone number, the first cell is the recipient and the others are
    the parameters 1, 2, 3 … Raises UsageError for a list that is empty or names no such column.
    """
    source = (line.removeprefix("\ufeff") if n == 0 else line for n, line in enumerate(lines))
    first = next((line for line in source if line.strip()), None)
    if first is None:
        raise UsageError("the list of recipients is empty")
    delimiter = max(_DELIMITERS, key=first.count)
    rows = csv.reader(chain([first], source), delimiter=delimiter, skipinitialspace=True)
    head = [cell.strip() for cell in next(rows)]
    if _is_address(head[0]):
        columns = ["recipient", *(str(place) for place in range(1, len(head)))]
        return Listing(tuple(columns[1:]), _entries(chain([head], rows), columns, 0))
    at = _recipient_column(head)
    return Listing(
        tuple(name for place, name in enumerate(head) if place != at and name),
        _entries(rows, head, at),
    )


def _is_address(cell: str) -> bool:
    try:
        normalise_recipient(cell)
    except PayloadError:
        return False
    return True


def _recipient_column(head: list[str]) -> int:
    places = {name.lower(): place for place, name in reversed(list(enumerate(head)))}
    for name in NAMES:
        if name in places:
            return places[name]
    raise UsageError(
        f"no column holds the recipients: name one of {', '.join(filter(None, head))} `recipient`"
    )


def _entries(
    rows: Iterator[list[str]], columns: list[str], at: int
) -> Iterator[Recipient | Rejection]:
    try:
        for row in rows:
            if not any(cell.strip() for cell in row):
                continue
            if len(row) > len(columns) and any(cell.strip() for cell in row[len(columns) :]):
                reason = f"has {len(row)} cells, but there are {len(columns)} columns"
                yield Rejection(row[at], reason)
                continue
            cells = zip(columns, (cell.strip() for cell in row), strict=False)
            parameters = {name: cell for name, cell in cells if name}
            yield Recipient(row[at].strip() if at < len(row) else "", parameters)
    except csv.Error as error:
        raise UsageError(f"the list of recipients is no CSV: {error}") from error
