"""What an answer of the Graph API means for the message, the recipient and the number.

The judgement is data: `error_codes.json` has one row for each code, or range of codes, that Meta
is known to answer with. A row's `class` says what to do, `tries` the most tries that make sense,
`hold` the seconds to wait at least (for a template: to hold it), `linked` that a link may work the
next time and an uploaded file will not, `subcode` narrows the code, and `where` tells how the error
has been seen to arrive. Meta's own advice is to branch on the code and to show the details:
titles change, and the HTTP status differs between reports of the same code (131056 comes as 400
and as 429), so it only counts where no known code does.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from importlib import resources
from typing import Any, Final, NamedTuple

import orjson

from waemitter.whatsapp.replies import Answered, NoAnswer, NotSent, Reply


class ErrorClass(StrEnum):
    """What to do about an error; each value is the word used in `error_codes.json`."""

    RETRY = "RETRY"
    """A passing fault: try this message again, with backoff, and count the try."""

    THROTTLE_NUMBER = "THROTTLE_NUMBER"
    """The number sends too fast: hold all its messages for a while. The try does not count."""

    THROTTLE_PAIR = "THROTTLE_PAIR"
    """Too much for this one recipient: hold only what goes there. The try does not count."""

    THROTTLE_APP = "THROTTLE_APP"
    """The account's quota of calls is used up: hold all its numbers. The try does not count."""

    DEFER = "DEFER"
    """Hold this message for a day or more, or fail it; sooner does harm."""

    FAIL = "FAIL"
    """This message will never go out as it is."""

    FAIL_TEMPLATE = "FAIL_TEMPLATE"
    """No message with this template will go out for now: hold them all."""

    PAUSE_NUMBER = "PAUSE_NUMBER"
    """The number cannot send until somebody repairs it. The try does not count."""

    PAUSE_ACCOUNT = "PAUSE_ACCOUNT"
    """The whole account cannot send until somebody repairs it. The try does not count."""

    UNKNOWN = "UNKNOWN"
    """The message may be on its way or not; only a status webhook can tell."""

    INBOUND = "INBOUND"
    """Belongs to a message that a user sent. As an answer to a send it means the same as FAIL."""

    MGMT = "MGMT"
    """Belongs to calls that manage the account. As an answer to a send it is the same as FAIL."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """Meta took the message over; whether it arrives, only status webhooks tell.

    `wa_id` is the number as Meta spells it, which may not be the one that was dialled, and is
    absent for business-scoped user ids. `message_status` comes with templates only: `accepted`,
    `held_for_quality_assessment` or `paused`.
    """

    wamid: str
    wa_id: str | None
    message_status: str | None


@dataclass(frozen=True, slots=True)
class Refused:
    """Meta did not take the message over, or nobody can say whether it did.

    `max_tries` counts the first try too; None leaves it to the message. `hold` is in seconds, None
    leaves the wait to the caller. `suppress` asks for the recipient to be opted out of marketing;
    `linked` says that only media given by a link is worth another try.
    `message` is fit for a log: at most 500 characters, without phone numbers.
    """

    error_class: ErrorClass
    code: int | None
    message: str
    max_tries: int | None = None
    hold: float | None = None
    suppress: bool = False
    linked: bool = False


class Rule(NamedTuple):
    """One row of the table, without the words for humans."""

    error_class: ErrorClass
    max_tries: int | None = None
    hold: float | None = None
    suppress: bool = False
    linked: bool = False


_SUCCESSES: Final = range(200, 300)
_REDIRECTS: Final = range(300, 400)
_CLIENT_ERRORS: Final = range(400, 500)
_UNAUTHORISED: Final = (401, 403)
_REQUEST_TIMEOUT: Final = 408
_TOO_MANY_REQUESTS: Final = 429

_LONGEST_MESSAGE: Final = 500
# Meta's widest window of calls is a day; a header that asks for more is a mistake.
_LONGEST_HEADER_HOLD: Final = 86_400.0

# Seven digits with the usual separators are the shortest phone number, and a wamid spells the
# recipient's number in base64.
_PERSONAL: Final = re.compile(r"\+?\d(?:[\s().\-]{0,2}\d){6,}|wamid\.[\w+/=\-]+")

_CODE: Final = re.compile(r"[0-9]{1,12}")

# The classes for which waiting makes sense, so that a header may set the wait.
_WAITING: Final = frozenset(
    {
        ErrorClass.RETRY,
        ErrorClass.THROTTLE_NUMBER,
        ErrorClass.THROTTLE_PAIR,
        ErrorClass.THROTTLE_APP,
        ErrorClass.DEFER,
        ErrorClass.UNKNOWN,
    }
)


@cache
def error_table() -> Mapping[tuple[int, int | None], Rule]:
    """Return the rule for each (code, subcode) in `error_codes.json`; read once, on first need."""
    rows = orjson.loads(resources.files(__package__).joinpath("error_codes.json").read_bytes())
    return {
        (code, row.get("subcode")): Rule(
            ErrorClass(row["class"]),
            row.get("tries"),
            row.get("hold"),
            row.get("suppress", False),
            row.get("linked", False),
        )
        for row in rows
        for code in range(row["code"], row.get("last", row["code"]) + 1)
    }


def classify(reply: Reply) -> Accepted | Refused:
    """Judge the reply to one send. Never raises, whatever the bytes are."""
    if isinstance(reply, Answered) and reply.status in _SUCCESSES:
        try:
            document = orjson.loads(reply.body)
            message = document["messages"][0]
            wamid = message["id"]
        except (orjson.JSONDecodeError, KeyError, IndexError, TypeError):
            return refuse(reply)
        if isinstance(wamid, str) and wamid:
            return Accepted(wamid, _wa_id(document), _text(message.get("message_status")))
    return refuse(reply)


def refuse(reply: Reply) -> Refused:
    """Judge a reply that is known not to be what was asked for. Never raises."""
    if isinstance(reply, NotSent):
        return Refused(ErrorClass.RETRY, None, _printable(reply.reason))
    if isinstance(reply, NoAnswer):
        return Refused(ErrorClass.UNKNOWN, None, _printable(reply.reason))
    try:
        document = orjson.loads(reply.body)
    except orjson.JSONDecodeError:
        return _by_status(reply, "no JSON")
    error = document.get("error") if isinstance(document, dict) else None
    code = _integer(error.get("code")) if isinstance(error, dict) else None
    if error is None or code is None:
        # Gateways in between speak JSON too: without a code it is not Meta's own verdict.
        return _by_status(reply, "neither a message id nor an error code")
    rule = _rule(code, error) or _rule_for_unknown(reply.status, error)
    return _refused(rule, code, _message(error), _hold(reply, rule))


def classify_status_error(errors: Sequence[Any]) -> Refused:
    """Judge the `errors` of a failed status, or of a whole value, in a webhook.

    The first entry with a code counts. A code that the table does not know is final: Meta had
    taken the message over and gave it up.
    """
    for error in errors:
        if isinstance(error, dict) and (code := _integer(error.get("code"))) is not None:
            rule = _rule(code, error) or Rule(ErrorClass.FAIL)
            return _refused(rule, code, _message(error), rule.hold)
    return Refused(ErrorClass.FAIL, None, "failed, and Meta gave no error code")


def _by_status(reply: Answered, lack: str) -> Refused:
    """Judge by the HTTP status alone: all there is when an edge or a gateway answered."""
    status = reply.status
    if status in _REDIRECTS:
        rule = Rule(ErrorClass.PAUSE_ACCOUNT)
        lack = "a redirect: the address of the Graph API is wrong"
    elif status in _CLIENT_ERRORS and status != _REQUEST_TIMEOUT:
        rule = _rule_for_unknown(status, {})
    else:
        rule = Rule(ErrorClass.UNKNOWN)
    return _refused(rule, None, f"HTTP {status}, {lack}", _hold(reply, rule))


def _refused(rule: Rule, code: int | None, message: str, hold: float | None) -> Refused:
    return Refused(
        rule.error_class, code, message, rule.max_tries, hold, rule.suppress, rule.linked
    )


def _rule(code: int, error: Mapping[str, Any]) -> Rule | None:
    table = error_table()
    subcode = _integer(error.get("error_subcode"))
    return table.get((code, subcode)) or table.get((code, None))


def _rule_for_unknown(status: int, error: Any) -> Rule:
    if status in _UNAUTHORISED:
        return Rule(ErrorClass.PAUSE_ACCOUNT)
    if status == _TOO_MANY_REQUESTS:
        return Rule(ErrorClass.THROTTLE_APP)
    if status not in _CLIENT_ERRORS or error.get("is_transient") is True:
        return Rule(ErrorClass.RETRY)
    # Most are lasting, but a code this release does not know may have been a passing one.
    return Rule(ErrorClass.RETRY, max_tries=2)


def _hold(reply: Answered, rule: Rule) -> float | None:
    """Return what Meta's headers ask for, else the table's own wait, in seconds."""
    if rule.error_class not in _WAITING:
        return rule.hold
    asked = reply.retry_after or 0.0
    if rule.error_class is ErrorClass.THROTTLE_APP and reply.usage:
        asked = max(asked, 60.0 * _minutes_to_regain_access(reply.usage))
    return min(asked, _LONGEST_HEADER_HOLD) if asked > 0 else rule.hold


def _minutes_to_regain_access(usage: str) -> float:
    """Return the longest `estimated_time_to_regain_access` in `x-business-use-case-usage`.

    The header is JSON: {account id: [{type, call_count, …, estimated_time_to_regain_access}]}.
    """
    try:
        accounts = orjson.loads(usage)
    except orjson.JSONDecodeError:
        return 0
    if not isinstance(accounts, dict):
        return 0
    quotas = [quota for listed in accounts.values() if isinstance(listed, list) for quota in listed]
    return max(
        (
            _integer(quota.get("estimated_time_to_regain_access")) or 0
            for quota in quotas
            if isinstance(quota, dict)
        ),
        default=0,
    )


def _wa_id(document: Any) -> str | None:
    try:
        return _text(document["contacts"][0]["wa_id"])
    except (KeyError, IndexError, TypeError):
        return None


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _integer(value: Any) -> int | None:
    if type(value) is int:
        return value
    if isinstance(value, str) and _CODE.fullmatch(value):
        return int(value)
    return None


def _message(error: Mapping[str, Any]) -> str:
    """Join title and details. `error_data` is an object, or in some answers a bare string."""
    data = error.get("error_data")
    details = data.get("details") if isinstance(data, dict) else data
    title = error.get("message") or error.get("title")
    parts = [part for part in (title, details or error.get("error_user_msg")) if part]
    words = [part for part in parts if isinstance(part, str)]
    return _printable(": ".join(dict.fromkeys(words)) or "no message")


def _printable(text: str) -> str:
    return _PERSONAL.sub("[redacted]", text)[:_LONGEST_MESSAGE]
