"""Which variant of an agent a contact has: by weight, and always the same."""

from __future__ import annotations

import math
from collections.abc import Sequence
from hashlib import sha256
from typing import Final

_SPAN: Final = 2.0**64


def chosen(agent: str, contact_id: int, weights: Sequence[tuple[str, float]]) -> str:
    """Return the name of the contact's variant; `weights` are (name, weight) pairs, at least one weight more than 0.

    Weighted rendezvous hashing: a contact moves only when its own variant goes, shrinks or another one grows, and then never
    between two that did not change.
    """
    if len(weights) == 1:
        return weights[0][0]
    name, _ = max(weights, key=lambda pair: _score(f"{agent}/{pair[0]}/{contact_id}", pair[1]))
    return name


def _score(key: str, weight: float) -> float:
    if weight <= 0:
        return -math.inf
    share = (int.from_bytes(sha256(key.encode()).digest()[:8]) + 0.5) / _SPAN
    return -weight / math.log(share)
