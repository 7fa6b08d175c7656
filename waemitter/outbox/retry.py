"""What becomes of an attempt: a pure decision from what Meta answered.

The classes of errors and what each asks for are Meta's language (whatsapp/errors.py); the patience is ours.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from waemitter.whatsapp.errors import Accepted, ErrorClass, Refused


class Outcome(StrEnum):
    """The words of settle_messages(); schema.sql says what each does to the row."""

    SENT = "sent"
    DRY_RUN = "dry_run"
    RETRY = "retry"  # queued again, the attempt counts
    DEFER = "defer"  # queued again, the attempt does not count
    RELEASE = "release"  # never started
    FAILED = "failed"
    UNCONFIRMED = "unconfirmed"


@dataclass(frozen=True, slots=True)
class Decision:
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


PAIR_WAIT: Final = 6.0  # seconds: Meta's steady rate is one message to a recipient in six
APP_WAIT: Final = 60.0
NUMBER_WAIT: Final = 2.0
REPAIR_WAIT: Final = 60.0  # a paused number or account is tried again with one message a minute
DEFER_WAIT: Final = 86_400.0  # "24 hours or more", for what Meta chose not to deliver


def decide(
    answer: Accepted | Refused,
    *,
    attempt: int,
    max_attempts: int | None,
    patience: Patience,
    jitter: float,
) -> Decision:
    """`attempt` counts from 1; `max_attempts` (retries after the first try) overrides the setting; `jitter` is a factor."""
    if isinstance(answer, Accepted):
        return Decision(Outcome.SENT, wamid=answer.wamid)
    match answer.error_class:
        case ErrorClass.UNKNOWN:
            return _refuse(answer, Outcome.UNCONFIRMED, delay=patience.grace)
        case ErrorClass.RETRY:
            retries = patience.max_attempts if max_attempts is None else max_attempts
            tries = min(retries + 1, answer.max_tries or retries + 1)
            if attempt >= tries:
                return _refuse(answer, Outcome.FAILED)
            delay = patience.delays[min(attempt, len(patience.delays)) - 1] * jitter
            return _refuse(answer, Outcome.RETRY, delay=max(delay, answer.hold or 0.0))
        case ErrorClass.THROTTLE_PAIR:
            return _refuse(answer, Outcome.DEFER, delay=(answer.hold or PAIR_WAIT) * jitter)
        case ErrorClass.THROTTLE_NUMBER:
            return _pause(answer, answer.hold or NUMBER_WAIT)
        case ErrorClass.THROTTLE_APP:
            return _pause(answer, answer.hold or APP_WAIT)
        case ErrorClass.PAUSE_NUMBER | ErrorClass.PAUSE_ACCOUNT:
            return _pause(answer, answer.hold or REPAIR_WAIT)
        case ErrorClass.DEFER:
            return _refuse(answer, Outcome.DEFER, delay=(answer.hold or DEFER_WAIT) * jitter)
        case ErrorClass.FAIL | ErrorClass.FAIL_TEMPLATE | ErrorClass.INBOUND | ErrorClass.MGMT:
            return _final(answer, attempt)


def _final(answer: Refused, attempt: int) -> Decision:
    if (
        answer.max_tries is not None and attempt < answer.max_tries
    ):  # an unknown code: once more, to be sure
        return _refuse(answer, Outcome.RETRY, delay=answer.hold or NUMBER_WAIT)
    return _refuse(answer, Outcome.FAILED)


def _pause(answer: Refused, seconds: float) -> Decision:
    return Decision(
        Outcome.DEFER, delay=0.0, code=answer.code, reason=answer.message, pause=seconds
    )


def _refuse(answer: Refused, outcome: Outcome, *, delay: float | None = None) -> Decision:
    return Decision(outcome, delay=delay, code=answer.code, reason=answer.message)
