"""How many tokens a text has, about: an estimate that learns from what the server counted."""

from __future__ import annotations

from typing import Final

_BYTES: Final = 4.0
"""UTF-8 bytes in a token of English, by OpenAI's rule of thumb; other scripts have more bytes and about as many tokens."""
MESSAGE: Final = 4
"""Tokens around each message of a chat: its role and its ends."""
_LEAST: Final = 0.25
_MOST: Final = 4.0
_WEIGHT: Final = 0.2


def estimate(text: str, factor: float = 1.0) -> int:
    """Estimate the tokens of a text; never less than one for a text that has any."""
    return int(-(-len(text.encode()) * factor // _BYTES))


def calibrated(factor: float, *, estimated: int, counted: int) -> float:
    """Move the factor towards what the server counted for a request that was `estimated` with the present one.

    One request moves it by a fifth of the way; it stays between a quarter and four times the rule of thumb.
    """
    if estimated <= 0 or counted <= 0:
        return factor
    wanted = factor * counted / estimated
    return min(_MOST, max(_LEAST, factor + _WEIGHT * (wanted - factor)))
