"""Durations as people write them: `250ms`, `30s`, `5m`, `2h`, `1d`, or a number of seconds.

Inside the program a duration is a float of seconds, whatever it was written in.
"""

from __future__ import annotations

import math
import re
from decimal import Decimal
from typing import Annotated, Final

from annotated_types import MinLen
from pydantic import BeforeValidator

from waemitter.settings.metadata import Kind

# Decimals: 57 times the float 0.001 is not 0.057, and a duration should print as it was written.
_SECONDS: Final = {
    "ms": Decimal("0.001"),
    "s": Decimal(1),
    "m": Decimal(60),
    "h": Decimal(3600),
    "d": Decimal(86400),
}
_WRITTEN: Final = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)?\s*", re.ASCII)


def parse_duration(value: object) -> float:
    """Read seconds from a number of seconds, or from a number with its unit.

    Raises ValueError for anything else, a negative or an endless duration included.
    """
    seconds = math.nan
    if isinstance(value, str) and (match := _WRITTEN.fullmatch(value)):
        seconds = float(Decimal(match[1]) * _SECONDS[match[2] or "s"])
    elif isinstance(value, int | float) and not isinstance(value, bool):
        seconds = float(Decimal(value))
    if not math.isfinite(seconds) or seconds < 0:
        raise ValueError("must be a duration such as 250ms, 30s, 5m, 2h, 1d or a number of seconds")
    return seconds


def format_duration(seconds: float) -> str:
    """Write seconds in the largest unit that keeps them whole: 300 is `5m`, 0.25 is `250ms`."""
    exact = Decimal(repr(seconds))
    for unit in ("d", "h", "m", "s"):
        if exact >= _SECONDS[unit] and exact % _SECONDS[unit] == 0:
            return f"{int(exact / _SECONDS[unit])}{unit}"
    if 0 < exact < 1 and exact % _SECONDS["ms"] == 0:
        return f"{int(exact / _SECONDS['ms'])}ms"
    return f"{exact:f}s" if exact else "0s"


def split_list(value: object) -> object:
    """Split text at commas and line breaks; a lone number is a list of one."""
    if isinstance(value, str):
        return [part for part in re.split(r"\s*[,\n]\s*", value.strip()) if part]
    if isinstance(value, int | float):
        return [value]
    return list(value) if isinstance(value, tuple) else value


Duration = Annotated[float, BeforeValidator(parse_duration), Kind("duration")]
Durations = Annotated[
    tuple[Duration, ...], MinLen(1), BeforeValidator(split_list), Kind("list of durations")
]
