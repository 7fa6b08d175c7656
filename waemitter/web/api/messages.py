"""`/api/messages`: put one into the outbox, see what became of it, cancel it, send it once more."""

from __future__ import annotations

import datetime
from collections.abc import Awaitable, Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final

import orjson
from pydantic import AwareDatetime, Field

from waemitter.errors import PayloadError
from waemitter.outbox.campaigns.store import Category
from waemitter.outbox.intake.store import IntakeStore, NewMessage
from waemitter.outbox.message import Status
from waemitter.outbox.store import Chosen, OutboxStore
from waemitter.web.api.model import (
    CHANNEL,
    CHANNEL_PARAMETER,
    Answered,
    Body,
    ById,
    Nothing,
    Parameters,
    header,
)
from waemitter.web.api.operation import Answer, Call, Operation
from waemitter.web.problems import Fault, Problem, unprocessable
from waemitter.whatsapp.requests import complaints

PAGE: Final = 50
LONGEST_PAGE: Final = 500
LONGEST_KEY: Final = 255


class SendParameters(Parameters):
    idempotency_key: str | None = header(
        "Idempotency-Key",
        min_length=1,
        max_length=LONGEST_KEY,
        pattern=r"^[!-~]+$",
        description="Sent once, however often the request is made.",
    )
    traceparent: str | None = header(
        "traceparent",
        max_length=LONGEST_KEY,
        description="W3C Trace Context: kept with the message, and forwarded with its events.",
    )


class SendBody(Body):
    recipient: str = Field(
        min_length=1,
        max_length=256,
        description="+14155550123, or a user id.",
        examples=["+14155550123"],
    )
    message_type: str = Field(min_length=1, max_length=64, examples=["text"])
    payload: dict[str, Any] = Field(
        description="The Cloud API's object for the type, keyed as there.",
        examples=[{"text": {"body": "Your order is on its way"}}],
    )
    channel: str = Field("default", pattern=CHANNEL)
    idempotency_key: str | None = Field(None, min_length=1, max_length=LONGEST_KEY)
    available_at: AwareDatetime | None = Field(None, description="Not sent earlier.")
    expires_at: AwareDatetime | None = Field(None, description="Not sent later.")
    priority: int = Field(0, ge=-32768, le=32767, description="Higher goes first.")
    ordering_key: str | None = Field(
        None, max_length=256, description="One at a time, in order; the recipient unless given."
    )
    correlation_id: str | None = Field(None, min_length=1, max_length=128)
    max_attempts: int | None = Field(None, ge=0, le=100, description="Retries after the first try.")
    category: Category | None = Field(None, description="Opt-outs concern it by this.")


class MessageSummary(Answered):
    id: int
    channel: str
    recipient: str
    message_type: str
    status: Status
    hold: str | None
    attempts: int
    error_code: int | None
    error_message: str | None
    created_at: datetime.datetime
    available_at: datetime.datetime | None
    sent_at: datetime.datetime | None


class Message(MessageSummary):
    """The row. `availableAt` is None when it has left the queue, or is held."""

    payload: dict[str, Any]
    priority: int
    max_attempts: int | None
    expires_at: datetime.datetime | None
    ordering_key: str | None
    idempotency_key: str | None
    campaign_id: int | None
    correlation_id: str | None
    whatsapp_message_id: str | None
    dry_run: bool
    billable: bool | None
    pricing_category: str | None
    delivered_at: datetime.datetime | None
    read_at: datetime.datetime | None
    failed_at: datetime.datetime | None
    enqueued_by: str


class Event(Answered):
    at: datetime.datetime
    from_status: str
    to_status: str
    detail: dict[str, Any] | None


class MessageWithEvents(Message):
    events: list[Event]


class ListParameters(Parameters):
    status: Status | None = None
    channel: str | None = Field(None, pattern=CHANNEL_PARAMETER)
    campaign_id: int | None = Field(None, ge=1, le=2**63 - 1)
    error_code: int | None = Field(None, ge=-(2**31), le=2**31 - 1)
    cursor: int | None = Field(None, ge=1, le=2**63 - 1, description="As the last page gave it.")
    limit: int = Field(PAGE, ge=1, le=LONGEST_PAGE)


class MessagePage(Answered):
    """The newest first; `nextCursor` is None on the last page."""

    messages: list[MessageSummary]
    next_cursor: int | None


class Messages:
    """The handlers, over the outbox."""

    def __init__(self, *, outbox: OutboxStore, intake: IntakeStore) -> None:
        self._outbox = outbox
        self._intake = intake

    def operations(self) -> Sequence[Operation[Any, Any]]:
        return (
            Operation(
                name="sendMessage",
                method="POST",
                path="/api/messages",
                summary="Put a message into the outbox.",
                scope="send",
                params=SendParameters,
                body=SendBody,
                handle=self.send,
                answers={HTTPStatus.CREATED: Message, HTTPStatus.OK: Message},
            ),
            Operation(
                name="listMessages",
                method="GET",
                path="/api/messages",
                summary="The newest messages first, page by page.",
                scope="read",
                params=ListParameters,
                body=Nothing,
                handle=self.list,
                answers={HTTPStatus.OK: MessagePage},
            ),
            Operation(
                name="getMessage",
                method="GET",
                path="/api/messages/{id}",
                summary="One message, and what happened to it.",
                scope="read",
                params=ById,
                body=Nothing,
                handle=self.get,
                answers={HTTPStatus.OK: MessageWithEvents},
                refusals=(HTTPStatus.NOT_FOUND,),
            ),
            self._change("cancelMessage", "cancel", "Cancel it, if it has not left.", self.cancel),
            self._change("retryMessage", "retry", "Queue it once more, if it ended.", self.retry),
        )

    @staticmethod
    def _change(
        name: str,
        verb: str,
        summary: str,
        handle: Callable[[Call[ById, Nothing]], Awaitable[Answer]],
    ) -> Operation[ById, Nothing]:
        return Operation(
            name=name,
            method="POST",
            path=f"/api/messages/{{id}}/{verb}",
            summary=summary,
            scope="send",
            params=ById,
            body=Nothing,
            handle=handle,
            answers={HTTPStatus.OK: MessageWithEvents},
            refusals=(HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT),
            audited=True,
        )

    async def send(self, call: Call[SendParameters, SendBody]) -> Answer:
        body, in_header = call.body, call.params.idempotency_key
        if in_header and body.idempotency_key not in {None, in_header}:
            raise unprocessable(
                [Fault("idempotencyKey", "differs from the header Idempotency-Key")]
            )
        found = complaints(body.recipient, body.message_type, body.payload)
        if found:
            raise unprocessable([Fault(each.field, each.reason) for each in found])
        message = NewMessage(
            recipient=body.recipient,
            message_type=body.message_type,
            payload=orjson.dumps(body.payload).decode(),
            channel=body.channel,
            idempotency_key=in_header or body.idempotency_key,
            available_at=body.available_at,
            expires_at=body.expires_at,
            priority=body.priority,
            ordering_key=body.ordering_key,
            correlation_id=body.correlation_id or call.correlation_id,
            max_attempts=body.max_attempts,
            traceparent=call.params.traceparent,
            category=body.category,
        )
        try:
            row, new = await self._intake.enqueue(message)
        except PayloadError as error:
            raise unprocessable([Fault(error.field, error.reason)]) from None
        return Answer(
            document=Message.model_validate(_shown(row)),
            status=HTTPStatus.CREATED if new else HTTPStatus.OK,
            headers={"Location": f"/api/messages/{row['id']}"},
        )

    async def list(self, call: Call[ListParameters, Nothing]) -> Answer:
        asked = call.params
        chosen = Chosen(asked.status, asked.channel, asked.campaign_id, asked.error_code)
        rows = await self._outbox.list(chosen, limit=asked.limit + 1, before=asked.cursor)
        shown = [MessageSummary.model_validate(_shown(row)) for row in rows[: asked.limit]]
        more = len(rows) > asked.limit
        return Answer(
            document=MessagePage(messages=shown, next_cursor=shown[-1].id if more else None)
        )

    async def get(self, call: Call[ById, Nothing]) -> Answer:
        return Answer(document=await self._found(call.params.id))

    async def cancel(self, call: Call[ById, Nothing]) -> Answer:
        changed = await self._outbox.cancel([call.params.id])
        return Answer(document=await self._changed(call.params.id, changed, "too late: it is"))

    async def retry(self, call: Call[ById, Nothing]) -> Answer:
        changed = await self._outbox.retry([call.params.id])
        return Answer(
            document=await self._changed(call.params.id, changed, "nothing to retry: it is")
        )

    async def _changed(
        self, message_id: int, changed: Sequence[int], words: str
    ) -> MessageWithEvents:
        found = await self._found(message_id)
        if not changed:
            raise Problem(HTTPStatus.CONFLICT, f"Message {message_id}: {words} {found.status}.")
        return found

    async def _found(self, message_id: int) -> MessageWithEvents:
        found = await self._outbox.get(message_id)
        if found is None:
            raise Problem(HTTPStatus.NOT_FOUND, f"There is no message {message_id}.")
        row, events = found
        told = [{**event, "detail": _object(event["detail"])} for event in events]
        return MessageWithEvents.model_validate({**_shown(row), "events": told})


def _shown(row: Mapping[str, Any]) -> dict[str, Any]:
    """The row as the models take it: jsonb as an object, and no `infinity` for what is held."""
    shown = dict(row)
    if shown["hold"] is not None:
        shown["available_at"] = shown.get("due_at")
    if "payload" in shown:
        shown["payload"] = _object(shown["payload"])
    return shown


def _object(text: str | None) -> Any:
    return None if text is None else orjson.loads(text)
