"""An event, and what it looks like on its way: CloudEvents 1.0 in JSON, https://github.com/cloudevents/spec."""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

import orjson

from waemitter.errors import UsageError

TYPES: Final = (
    *("message.received", "message.sent", "message.delivered", "message.read", "message.failed"),
    *("message.unconfirmed", "message.expired", "message.cancelled", "message.suppressed"),
    *("turn.completed", "turn.failed"),
    *("channel.paused", "channel.resumed"),
    *("campaign.started", "campaign.paused", "campaign.completed", "campaign.cancelled"),
    *("contact.opted_out", "contact.opted_in"),
)
"""All that can be subscribed to; schema.sql writes them."""

TEST: Final = "subscription.test"
"""What `waemitter events test` sends."""

CONTENT_TYPE: Final = "application/cloudevents+json; charset=utf-8"
SOURCE: Final = "/waemitter"


class Event(NamedTuple):
    """A row that was claimed; `data` is JSON text, `attempt` counts from one and fences the outcome."""

    id: int
    event_id: str
    type: str
    subject: str
    channel: str | None
    at: datetime.datetime
    data: str
    traceparent: str | None
    attempt: int


def expand(patterns: Iterable[str]) -> tuple[str, ...]:
    """Give the types that are meant: `message.sent` is itself, `message.*` all of a kind, `*` all.

    Raises UsageError for a word that means none.
    """
    found: dict[str, None] = {}
    for pattern in patterns:
        kind = pattern.removesuffix("*")
        meant = [each for each in TYPES if each == pattern or (kind != pattern and _of(each, kind))]
        if not meant:
            raise UsageError(f"{pattern!r} is no type of event; there are {', '.join(TYPES)}")
        found |= dict.fromkeys(meant)
    return tuple(each for each in TYPES if each in found)


def _of(word: str, kind: str) -> bool:
    """Whole words alone: `message.*` and `*`, not `mess*`."""
    return (not kind or kind.endswith(".")) and word.startswith(kind)


def cloud_event(event: Event) -> bytes:
    """Write the event in structured mode: attributes and data in one JSON object.

    `sequence` rises within a subject (https://github.com/cloudevents/spec/blob/main/cloudevents/extensions/sequence.md), so
    that who gets an event twice can tell which of two is older; `traceparent` is the extension for distributed tracing.
    """
    attributes: dict[str, Any] = {
        "specversion": "1.0",
        "id": event.event_id,
        "source": SOURCE if event.channel is None else f"{SOURCE}/channels/{event.channel}",
        "type": event.type,
        "subject": event.subject,
        "time": event.at.astimezone(datetime.UTC).isoformat().replace("+00:00", "Z"),
        "sequence": f"{event.id:020d}",
        "datacontenttype": "application/json",
    }
    if event.traceparent:
        attributes["traceparent"] = event.traceparent
    return orjson.dumps({**attributes, "data": orjson.Fragment(event.data)})
