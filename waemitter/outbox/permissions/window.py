"""A free-form message to somebody who has not written within 24 hours: sent all the same, failed, or sent as a template.

Meta refuses such a message with 131047. What is known here is advisory, since webhooks come late; so the default is to send.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from enum import StrEnum
from typing import Final, NamedTuple

import orjson

from waemitter.outbox.message import Attempt
from waemitter.outbox.retry import Decision, Outcome
from waemitter.whatsapp.requests import FALLBACK

CODE: Final = 131047
REASON: Final = "more than 24 hours since the recipient last wrote: only a template may be sent"


class WindowPolicy(StrEnum):
    """What to do outside the window; the words of channels.window_policy."""

    SEND = "send"
    FAIL = "fail"
    TEMPLATE = "template"


class Sorted(NamedTuple):
    """What may leave, in the order given, and what is refused."""

    allowed: list[Attempt]
    refused: list[Attempt]


REFUSAL: Final = Decision(Outcome.FAILED, code=CODE, reason=REASON, error_class="FAIL")


def sort(attempts: Sequence[Attempt], outside: Collection[int], *, policy: WindowPolicy) -> Sorted:
    """`outside`: the ids of messages whose recipient's window is closed."""
    found = Sorted([], [])
    treat = _TREATMENTS[policy]
    for attempt in attempts:
        treated = treat(attempt) if attempt.id in outside else attempt
        if treated is None:
            found.refused.append(attempt)
        else:
            found.allowed.append(treated)
    return found


def _as_template(attempt: Attempt) -> Attempt | None:
    """The message as the template that it names; None when it names none."""
    payload = orjson.loads(attempt.payload)
    fallback = payload.get(FALLBACK) if isinstance(payload, dict) else None
    if not isinstance(fallback, dict):
        return None
    kept = {key: payload[key] for key in _CARRIED if key in payload}
    body = orjson.dumps({**kept, "template": fallback}).decode()
    return attempt._replace(message_type="template", payload=body)


_CARRIED: Final = ("context", "biz_opaque_callback_data")
_TREATMENTS: Final[dict[WindowPolicy, Callable[[Attempt], Attempt | None]]] = {
    WindowPolicy.SEND: lambda attempt: attempt,
    WindowPolicy.FAIL: lambda _: None,
    WindowPolicy.TEMPLATE: _as_template,
}
