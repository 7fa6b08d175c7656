"""What the items of webhooks say, in the words of the stores. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple

import orjson

from waemitter.inbox.failures import Failure, Notice
from waemitter.inbox.gathering.gatherer import Said
from waemitter.inbox.store import Answer, Inbound, Moved, Received
from waemitter.outbox.message import Echo, read_echo
from waemitter.outbox.store import StatusUpdate
from waemitter.whatsapp.errors import classify_status_error
from waemitter.whatsapp.webhooks import (
    ErrorNotice,
    Item,
    Malformed,
    Message,
    Status,
    succession,
    tapped,
)

LIVE: Final = "messages"
"""The field of what is said now; `history` brings old messages in the same shape."""

NOT_THE_CUSTOMERS: Final = frozenset({"system", "request_welcome"})
"""Types of messages that WhatsApp writes about a customer: they open no 24-hour window."""

NO_ANSWERS: Final = NOT_THE_CUSTOMERS | {"reaction", "edit", "revoke", "unsupported"}
"""Types of messages that are no reply to a campaign."""

FROM_NOBODY: Final = "a message from nobody: no number and no id"

LARGEST_CODE: Final = 2**31 - 1


class Found(NamedTuple):
    """An item, and the webhook that brought it."""

    webhook_id: int
    source: str
    item: Item


class Heard(NamedTuple):
    update: StatusUpdate
    echo: Echo | None
    failure: Failure | None


def unusable(item: Item) -> str | None:
    """Why an item can have no effect, however often it is tried; None when it may."""
    if isinstance(item, Malformed):
        return item.reason
    if isinstance(item, Message) and item.field == LIVE:
        known = item.sender or item.user_id or item.group_id
        return None if known else FROM_NOBODY
    return None


def up_to_each_succession(found: Sequence[Found]) -> Iterable[Sequence[Found]]:
    """What comes behind a changed number is already written from the new one."""
    first = 0
    for place, each in enumerate(found, 1):
        if place == len(found) or (isinstance(each.item, Message) and succession(each.item)):
            yield found[first:place]
            first = place


def inbound(found: Found) -> Inbound:
    message = found.item
    assert isinstance(message, Message)  # noqa: S101 the caller has looked
    contact = message.contact or {}
    profile = contact.get("profile")
    profile = profile if isinstance(profile, dict) else {}
    return Inbound(
        number=message.phone_number_id,
        wamid=message.wamid,
        type=message.type,
        wa_id=message.sender,
        user_id=message.user_id,
        group_id=message.group_id,
        name=word_of(profile.get("name")),
        username=word_of(profile.get("username")),
        sent_at=message.timestamp,
        opens=message.type not in NOT_THE_CUSTOMERS and message.group_id is None,
        payload=as_json(message.raw),
        contact=as_json(message.contact) if message.contact else None,
        webhook_id=found.webhook_id,
    )


def moves(found: Sequence[Found], results: Sequence[Received]) -> Iterable[Moved]:
    for received in results:
        message = found[received.n].item
        if received.channel is None or received.contact_id is None:
            continue
        if (
            isinstance(message, Message)
            and message.group_id is None
            and (now := succession(message))
        ):
            former = [
                message.sender if now.wa_id else None,
                message.user_id if now.user_id else None,
            ]
            yield Moved(
                received.channel,
                received.contact_id,
                [address for address in former if address],
                now.wa_id,
                now.user_id,
                message.timestamp,
            )


def answers(found: Sequence[Found], results: Sequence[Received]) -> Iterable[Answer]:
    for received in results:
        message = found[received.n].item
        if received.result != "received" or not isinstance(message, Message):
            continue
        sender = message.sender or message.user_id
        if message.type in NO_ANSWERS or message.group_id or not sender or not received.channel:
            continue
        context = message.raw.get("context")
        wamid = word_of(context.get("id")) if isinstance(context, dict) else None
        yield Answer(received.channel, sender, wamid, tapped(message))


def said(found: Sequence[Found], results: Sequence[Received]) -> Iterable[Said]:
    for received in results:
        message = found[received.n].item
        if (
            isinstance(message, Message)
            and received.message_id is not None
            and received.contact_id is not None
            and received.channel is not None
        ):
            yield Said(received.message_id, received.channel, received.contact_id, message.raw)


def kept(found: Sequence[Found], results: Sequence[Received]) -> Iterable[tuple[str, int, Message]]:
    for received in results:
        message = found[received.n].item
        if (
            isinstance(message, Message)
            and received.channel is not None
            and received.message_id is not None
        ):
            yield received.channel, received.message_id, message


def heard(status: Status) -> Heard:
    echo = read_echo(status.echo)
    refused = classify_status_error(status.errors) if status.status == "failed" else None
    code = refused.code if refused else None
    update = StatusUpdate(
        message_id=echo.message_id if echo else None,
        token=echo.token if echo else None,
        wamid=status.wamid,
        word=status.status,
        at=status.timestamp,
        code=code if code is not None and code <= LARGEST_CODE else None,
        reason=refused.message if refused else None,
        category=status.pricing_category,
        billable=status.billable,
    )
    failure = Failure(update, status.phone_number_id, refused) if refused else None
    return Heard(update, echo, failure)


def notice(item: ErrorNotice) -> Notice:
    return Notice(item.phone_number_id, classify_status_error(item.errors))


def word_of(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def as_json(document: dict[str, Any], option: int = 0) -> str:
    return orjson.dumps(document, option=option).decode()
