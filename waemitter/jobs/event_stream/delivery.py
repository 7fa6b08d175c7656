"""What became of a delivery, and when the next is due."""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from typing import Final, Literal, TypeAlias

Outcome: TypeAlias = Literal["delivered", "failed", "refused", "hopeless", "gone", "released"]
"""delivered · failed: by the target's fault, which may pass · refused: this event was; others may not be ·
hopeless: it will never be taken · gone: the target wants no more · released: never started."""

FIRST_DELAY: Final = 1.0
LONGEST_DELAY: Final = 3600.0
_TARGETS_FAULT: Final = frozenset(
    {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS}
)


@dataclass(frozen=True, slots=True)
class Delivery:
    """`trouble`: what went wrong, in words without a secret; `wait`: seconds that the target asked for."""

    outcome: Outcome
    trouble: str | None = None
    wait: float = 0.0


DELIVERED: Final = Delivery("delivered")


def judged(status: int, retry_after: str | None = None) -> Delivery:
    """Judge what a webhook's receiver answered, by Standard Webhooks: 2xx is success, 410 the end, the rest is tried again.

    A redirect is not followed, and so a failure: the address in the settings is the only one that is called.
    """
    if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
        return DELIVERED
    trouble = f"the receiver answered {status}"
    if status == HTTPStatus.GONE:
        return Delivery("gone", trouble)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status in _TARGETS_FAULT:
        return Delivery("failed", trouble, _seconds(retry_after))
    return Delivery("refused", trouble)


def _seconds(retry_after: str | None) -> float:
    if retry_after is None or not (retry_after.isascii() and retry_after.isdecimal()):
        return 0.0
    return min(float(retry_after), LONGEST_DELAY)


def delay(attempt: int, *, wait: float, jitter: float) -> float:
    """Seconds until the attempt after this one: doubled each time up to an hour, `jitter` a factor near 1."""
    backed_off: float = min(FIRST_DELAY * 2.0 ** (min(attempt, 20) - 1), LONGEST_DELAY)
    return max(backed_off * jitter, wait)
