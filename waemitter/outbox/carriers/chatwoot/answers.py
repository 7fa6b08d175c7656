"""What Chatwoot's answers mean for a message and its channel. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from http import HTTPStatus
from typing import Any, Final

from waemitter.chatwoot.client import Answered, NoAnswer, NotSent, Reply
from waemitter.chatwoot.webhooks import MARKER
from waemitter.outbox.message import read_echo
from waemitter.whatsapp.errors import Accepted, ErrorClass, Refused

WAIT: Final = 10.0
"""Seconds, after a 429 that does not say."""

_LONGEST: Final = 500


def key_of(message_id: int) -> str:
    """What stands in the place of a wamid."""
    return f"chatwoot.{message_id}"


def judge(reply: Reply) -> Accepted | Refused:
    """Judge the reply to a message. A 5xx may come behind its acceptance: before the next attempt Chatwoot is asked."""
    if isinstance(reply, NoAnswer):
        return Refused(ErrorClass.UNKNOWN, None, reply.reason)
    if isinstance(reply, Answered) and reply.good:
        found = reply.document.get("id") if isinstance(reply.document, dict) else None
        if type(found) is int:
            return Accepted(key_of(found), None, None)
        return Refused(ErrorClass.UNKNOWN, None, "Chatwoot's answer names no message")
    return refuse(reply)


def refuse(reply: Reply) -> Refused:
    """Judge a reply that is not what was asked for, when no message can have been left by it."""
    if isinstance(reply, NotSent | NoAnswer):
        return Refused(ErrorClass.RETRY, None, reply.reason)
    said = f"Chatwoot answered {reply.status}{_words(reply.document)}"[:_LONGEST]
    match reply.status:
        case HTTPStatus.TOO_MANY_REQUESTS:
            wait = reply.retry_after or WAIT
            return Refused(ErrorClass.THROTTLE_NUMBER, None, said, hold=wait)
        case HTTPStatus.UNAUTHORIZED | HTTPStatus.FORBIDDEN:
            return Refused(ErrorClass.PAUSE_ACCOUNT, None, said)
        case status if HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR:
            return Refused(ErrorClass.FAIL, None, said)
    return Refused(ErrorClass.RETRY, None, said)


def listed(document: Any) -> list[dict[str, Any]]:
    """The rows of a list; Chatwoot wraps them in `payload`, or that in `data`."""
    if isinstance(document, dict) and isinstance(document.get("data"), dict):
        document = document["data"]
    rows = document.get("payload") if isinstance(document, dict) else document
    return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []


def posted(
    messages: Iterable[dict[str, Any]], *, message_id: int, tokens: frozenset[int]
) -> int | None:
    """Find the message that an attempt left: by its row and its token, since another database may have a row of that id."""
    for message in messages:
        attributes = message.get("content_attributes")
        marker = attributes.get(MARKER) if isinstance(attributes, dict) else None
        echo = read_echo(marker) if isinstance(marker, str) else None
        if echo is not None and echo.message_id == message_id and echo.token in tokens:
            found = message.get("id")
            return found if type(found) is int else None
    return None


def _words(document: Any) -> str:
    """Chatwoot's reasons are of fields, and quote no message."""
    if not isinstance(document, dict):
        return ""
    said = document.get("message") or document.get("error") or document.get("errors")
    return f": {said}" if isinstance(said, str) else ""
