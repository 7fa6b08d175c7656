"""What came back from one request to the Graph API, before anybody judges it.

The difference that matters is between `NotSent` and `NoAnswer`. Meta takes no idempotency key, so
a message that may already be on its way must not be sent again as if nothing had happened.
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias


class Answered(NamedTuple):
    """An HTTP response that was read to its end, whatever its status.

    `retry_after` is the header of that name in seconds. `usage` is `x-business-use-case-usage` as
    it came: JSON with the share of the account's call quota that is used up.
    """

    status: int
    body: bytes
    retry_after: float | None = None
    usage: str | None = None


class NotSent(NamedTuple):
    """It failed before a byte of the request was written: sending again is safe."""

    reason: str


class NoAnswer(NamedTuple):
    """Part of the request left, and no whole response came: the message may be on its way."""

    reason: str


Reply: TypeAlias = Answered | NotSent | NoAnswer
