"""How the pages say things: numbers, times, and as much of a phone number as everybody may see."""

from __future__ import annotations

import datetime
from typing import Final

FOREVER: Final = datetime.datetime(9000, 1, 1, tzinfo=datetime.UTC)
"""Whatever is later is Postgres's infinity, as the driver spells it."""

NOTHING: Final = "\u2013"
SHORT: Final = 7
"""Characters of a number up to which its end is not shown."""
WHOLE: Final = 100
INSTANT: Final = 0.001
TENTH: Final = 0.95
TENS: Final = 10.0

_STEPS: Final = ((1.0, "s"), (60.0, "min"), (3600.0, "h"), (86_400.0, "d"))


def masked(number: str | None) -> str:
    """The beginning, that tells the country, and the last two digits: `+14•••••23`."""
    if not number:
        return NOTHING
    head, tail = (3, 2) if len(number) > SHORT else (1, 0)
    return number[:head] + "•" * 5 + (number[-tail:] if tail else "")


def duration(seconds: float) -> str:
    """In the largest unit of which there are two at least: `90 s`, `2 min`, `3 h`."""
    seconds = max(0.0, seconds)
    if seconds < 1:
        return "0 s" if seconds < INSTANT else f"{seconds * 1000:.0f} ms"
    size, unit = [step for step in _STEPS if seconds >= 2 * step[0] or step[0] == 1.0][-1]
    return f"{seconds / size:.0f} {unit}"


def when(at: datetime.datetime | None, now: datetime.datetime) -> str:
    """`3 min ago`, `in 2 h`."""
    if at is None:
        return NOTHING
    if at >= FOREVER:
        return "for ever"
    seconds = (now - at).total_seconds()
    if abs(seconds) < 1:
        return "now"
    return f"{duration(seconds)} ago" if seconds > 0 else f"in {duration(-seconds)}"


def exactly(at: datetime.datetime | None) -> str:
    """`2026-11-22 07:42:56 UTC`."""
    if at is None or at >= FOREVER:
        return ""
    return at.astimezone(datetime.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def number(value: float | None) -> str:
    """Whole from a hundred on, with thin spaces: `1 234 567`; else `12.5`."""
    if value is None:
        return NOTHING
    if value >= WHOLE or value == int(value):
        return f"{value:,.0f}".replace(",", "\u2009")
    return f"{value:.1f}"


def percent(part: float, whole: float) -> str:
    return f"{100 * part / whole:.0f} %" if whole else NOTHING


def cut(text: str | None, length: int = 90) -> str:
    if not text:
        return ""
    return text if len(text) <= length else text[: length - 1] + "…"


def seconds(value: float | None) -> str:
    """A response time: `0.8 s`, `12 s`, `3 min`."""
    if value is None:
        return NOTHING
    return f"{value:.1f} s" if TENTH <= value < TENS else duration(value)
