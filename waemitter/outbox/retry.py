"""What becomes of an attempt: pure decisions from what Meta answered, or told later by a webhook.

The classes of errors and what each asks for are Meta's language (whatsapp/errors.py); the patience is ours.
A refusal has two sides: what becomes of the message (`decide`, `after_failure`), and what it asks for beyond it, of the
channel, the template or the recipient (`consequence`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import inf
from typing import Final, NamedTuple

from waemitter.whatsapp.errors import Accepted, ErrorClass, Refused


class Outcome(StrEnum):
    """The words of settle_messages(); schema.sql says what each does to the row."""

    SENT = "sent"
    DRY_RUN = "dry_run"
    RETRY = "retry"  # queued again, the attempt counts
    DEFER = "defer"  # queued again, the attempt does not count
    PAIR = "pair"  # as defer; the database counts the strikes of the recipient, and waits for 4^n s
    POSTPONE = "postpone"  # queued again for a day or more, and nobody waits for it
    RELEASE = "release"  # never started
    FAILED = "failed"
    UNCONFIRMED = "unconfirmed"


class Decision(NamedTuple):
    """`delay`: seconds until the row is due again. `error_class`: what a dead letter says of a failure."""

    outcome: Outcome
    wamid: str | None = None
    delay: float | None = None
    code: int | None = None
    reason: str | None = None
    error_class: str | None = None


class Pause(NamedTuple):
    """`seconds` may be infinite: until a probe or an operator ends it. `account`: all channels of its token or WABA."""

    seconds: float
    account: bool


class Consequence(NamedTuple):
    """`hold`: seconds for which the message's template is held, may be infinite. `suppress`: its recipient opted out.

    `slower`: the number's limit was met, so its rate is lowered.
    """

    pause: Pause | None = None
    hold: float | None = None
    suppress: bool = False
    slower: bool = False


class Again(StrEnum):
    """The words of apply_failures(): whether a message that Meta took and then gave up is sent again."""

    NEVER = "never"
    SPENT = "spent"  # while attempts are left
    LINKED = "linked"  # the same, for media given by a link
    UNSPENT = "unspent"  # the attempt is not counted
    PAIR = "pair"  # the same, when the recipient may be written to again
    ONCE = "once"  # a day or more later


class Resend(NamedTuple):
    """`delay`: seconds at least; `tries`: the most that make sense, the first included, None = as many as there are."""

    again: Again
    delay: float = 0.0
    tries: int | None = None


@dataclass(frozen=True, slots=True)
class Patience:
    """The settings of retrying. `delays` in seconds before retry 1, 2, …; the last one repeats.

    `postpone`: what Meta chose not to deliver is tried once more, a day later.
    """

    max_attempts: int
    delays: Sequence[float]
    grace: float
    postpone: bool = False


PAIR_WAIT: Final = 1.0  # seconds at the least: the recipient's row says how long
APP_WAIT: Final = 60.0
NUMBER_WAIT: Final = 2.0
DEFER_WAIT: Final = 86_400.0  # "24 hours or more", for what Meta chose not to deliver
TOO_FAST: Final = 130429  # Meta's error code: the number's throughput is used up
LONG: Final = 3600.0  # seconds from which a throttle is a restriction, and a person should know

PAUSES: Final[Mapping[ErrorClass, Pause]] = {
    ErrorClass.THROTTLE_NUMBER: Pause(NUMBER_WAIT, account=False),
    ErrorClass.THROTTLE_APP: Pause(APP_WAIT, account=True),
    ErrorClass.PAUSE_NUMBER: Pause(inf, account=False),
    ErrorClass.PAUSE_ACCOUNT: Pause(inf, account=True),
}
"""What concerns the number or the account stops its channels; a throttle for as long as Meta says, where it does."""

_THROTTLES: Final = frozenset({ErrorClass.THROTTLE_NUMBER, ErrorClass.THROTTLE_APP})


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
    if kind is ErrorClass.THROTTLE_PAIR:
        return _refused(answer, Outcome.PAIR, delay=(answer.hold or PAIR_WAIT) * jitter)
    if _is_no_fault(answer):
        return _refused(answer, Outcome.DEFER, delay=0.0)
    if kind is ErrorClass.DEFER and patience.postpone and attempt == 1:
        return _refused(answer, Outcome.POSTPONE, delay=_a_day(answer, jitter))
    return _retry(answer, attempt, max_attempts, patience, jitter)


def _retry(
    answer: Refused,
    attempt: int,
    max_attempts: int | None,
    patience: Patience,
    jitter: float,
) -> Decision:
    tries = 1
    if answer.error_class is ErrorClass.RETRY:
        retries = patience.max_attempts if max_attempts is None else max_attempts
        tries = min(retries + 1, answer.max_tries or retries + 1)
    if attempt >= tries:
        return _refused(answer, Outcome.FAILED)
    delay = patience.delays[min(attempt, len(patience.delays)) - 1] * jitter
    return _refused(answer, Outcome.RETRY, delay=max(delay, answer.hold or 0.0))


def after_failure(failure: Refused, *, patience: Patience, jitter: float) -> Resend:
    """Whether a message is sent again whose `failure` Meta told after it had accepted it.

    The limits that depend on the message's row are apply_failures()'s to check.
    """
    kind = failure.error_class
    if kind is ErrorClass.THROTTLE_PAIR:
        return Resend(Again.PAIR, delay=(failure.hold or PAIR_WAIT) * jitter)
    if _is_no_fault(failure):
        return Resend(Again.UNSPENT)
    if kind is ErrorClass.DEFER and patience.postpone:
        return Resend(Again.ONCE, delay=_a_day(failure, jitter))
    if kind is ErrorClass.RETRY:
        again = Again.LINKED if failure.linked else Again.SPENT
        return Resend(again, delay=failure.hold or 0.0, tries=failure.max_tries)
    return Resend(Again.NEVER)


def consequence(answer: Refused) -> Consequence:
    """What a refusal asks for beyond its message, however it came."""
    pause = PAUSES.get(answer.error_class)
    if pause is not None and answer.error_class in _THROTTLES and answer.hold:
        pause = pause._replace(seconds=answer.hold)
    held = answer.error_class is ErrorClass.FAIL_TEMPLATE
    return Consequence(
        pause=pause,
        hold=(answer.hold or inf) if held else None,
        suppress=answer.suppress,
        slower=answer.code == TOO_FAST,
    )


def _is_no_fault(answer: Refused) -> bool:
    """Whether the message would have gone out but for its number, account or template: no attempt is spent."""
    kind = answer.error_class
    if kind is ErrorClass.FAIL_TEMPLATE:
        return answer.max_tries is None
    return kind in PAUSES


def _a_day(answer: Refused, jitter: float) -> float:
    """Never less than what Meta asks for: sooner prolongs the block (per-user marketing limits, April 2026)."""
    return (answer.hold or DEFER_WAIT) * max(1.0, jitter)


def _refused(answer: Refused, outcome: Outcome, *, delay: float | None = None) -> Decision:
    return Decision(
        outcome,
        delay=delay,
        code=answer.code,
        reason=answer.message,
        error_class=answer.error_class,
    )
