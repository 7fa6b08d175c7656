"""What becomes of an attempt: a pure decision from what Meta answered.

The classes of errors and what each asks for are Meta's language (whatsapp/errors.py); the patience is ours.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple

from waemitter.whatsapp.errors import Accepted, ErrorClass, Refused


class Outcome(StrEnum):
    """The words of settle_messages(); schema.sql says what each does to the row."""

    SENT = "sent"
    DRY_RUN = "dry_run"
    RETRY = "retry"  # queued again, the attempt counts
    DEFER = "defer"  # queued again, the attempt does not count
    PAIR = "pair"  # as defer; the database counts the strikes of the recipient, and waits for 4^n s
    RELEASE = "release"  # never started
    FAILED = "failed"
    UNCONFIRMED = "unconfirmed"


class Decision(NamedTuple):
    """`delay`: seconds until the row is due again. `pause`: seconds in which the whole channel sends nothing."""

    outcome: Outcome
    wamid: str | None = None
    delay: float | None = None
    code: int | None = None
    reason: str | None = None
    pause: float | None = None


@dataclass(frozen=True, slots=True)
class Patience:
    """The settings of retrying. `delays` in seconds before retry 1, 2, …; the last one repeats."""

    max_attempts: int
    delays: Sequence[float]
    grace: float


APP_WAIT: Final = 60.0
NUMBER_WAIT: Final = 2.0
REPAIR_WAIT: Final = 60.0  # a paused number or account is tried again with one message a minute
DEFER_WAIT: Final = 86_400.0  # "24 hours or more", for what Meta chose not to deliver


PAUSES: Final[Mapping[ErrorClass, float]] = {
    ErrorClass.THROTTLE_NUMBER: NUMBER_WAIT,
    ErrorClass.THROTTLE_APP: APP_WAIT,
    ErrorClass.PAUSE_NUMBER: REPAIR_WAIT,
    ErrorClass.PAUSE_ACCOUNT: REPAIR_WAIT,
}
"""What concerns the number or the account stops the whole channel; seconds unless Meta names them."""

WAITS: Final[Mapping[ErrorClass, tuple[Outcome, float]]] = {
    ErrorClass.THROTTLE_PAIR: (Outcome.PAIR, 1.0),
    ErrorClass.DEFER: (Outcome.DEFER, DEFER_WAIT),
}
"""What concerns this one message, or its recipient, and is no fault of it; seconds at the least."""


def decide(
    answer: Accepted | Refused,
    *,
    attempt: int,
    max_attempts: int | None,
    patience: Patience,
    jitter: float,
) -> Decision:
    """What to do with a message after Meta's `answer` to an `attempt`, counted from 1.

    `max_attempts`, retries after the first try, overrides the setting; `jitter` is a factor near 1.
    """
    if isinstance(answer, Accepted):
        return Decision(Outcome.SENT, wamid=answer.wamid)
    kind = answer.error_class
    if kind is ErrorClass.UNKNOWN:
        return _refused(answer, Outcome.UNCONFIRMED, delay=patience.grace)
    if kind in PAUSES:
        return _refused(answer, Outcome.DEFER, delay=0.0, pause=answer.hold or PAUSES[kind])
    if kind in WAITS:
        outcome, wait = WAITS[kind]
        return _refused(answer, outcome, delay=(answer.hold or wait) * jitter)
    tries = 1
    if kind is ErrorClass.RETRY:
        retries = patience.max_attempts if max_attempts is None else max_attempts
        tries = min(retries + 1, answer.max_tries or retries + 1)
    if attempt >= tries:
        return _refused(answer, Outcome.FAILED)
    delay = patience.delays[min(attempt, len(patience.delays)) - 1] * jitter
    return _refused(answer, Outcome.RETRY, delay=max(delay, answer.hold or 0.0))


def _refused(
    answer: Refused, outcome: Outcome, *, delay: float | None = None, pause: float | None = None
) -> Decision:
    return Decision(outcome, delay=delay, code=answer.code, reason=answer.message, pause=pause)
