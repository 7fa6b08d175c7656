"""`/api/conversations…`: look at them, hand one to a person and back, and say what a handler says later than its turn."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, Literal

from pydantic import Field

from waemitter.errors import PayloadError
from waemitter.inbox.conversations.store import Chosen, ConversationStore
from waemitter.turns.answers import AnswerDocument, faults
from waemitter.turns.replies.store import ReplyStore
from waemitter.web.api.messages import LONGEST_PAGE, PAGE, SendParameters
from waemitter.web.api.model import (
    CHANNEL_PARAMETER,
    Answered,
    Body,
    ById,
    Nothing,
    Parameters,
)
from waemitter.web.api.operation import Answer, Call, Operation
from waemitter.web.problems import Fault, Problem, unprocessable

LONGEST_TAKEOVER = 366 * 86_400.0
"""Seconds."""


class ReplyParameters(SendParameters):
    id: int = Field(ge=1, le=2**63 - 1)


class ReplyBody(AnswerDocument):
    human: bool = Field(
        default=False,
        description="A person says it: also while one has the conversation, who has it for longer then.",
    )


class Reply(Answered):
    """`messageIds`: rows of the outbox, in the order of the messages."""

    conversation_id: int
    message_ids: list[int]


class ListParameters(Parameters):
    status: Literal["idle", "buffering", "processing", "human", "error"] | None = None
    channel: str | None = Field(None, pattern=CHANNEL_PARAMETER)
    contact: str | None = Field(
        None, max_length=256, description="A phone number, or a user id.", examples=["+14155550123"]
    )
    limit: int = Field(PAGE, ge=1, le=LONGEST_PAGE)
    cursor: int | None = Field(None, ge=1, le=2**63 - 1)


class ConversationSummary(Answered):
    """`human`: a person answers; until `takeoverUntil`, or, when that is null, until it is handed back."""

    id: int
    channel: str
    status: str
    contact: str | None
    name: str | None
    human: bool
    takeover_until: datetime.datetime | None
    last_inbound_at: datetime.datetime | None
    locked_at: datetime.datetime | None
    lock_expires_at: datetime.datetime | None
    created_at: datetime.datetime
    updated_at: datetime.datetime


class ConversationPage(Answered):
    conversations: list[ConversationSummary]
    next_cursor: int | None


class SessionSummary(Answered):
    active_service: str | None
    context: dict[str, Any]


class Said(Answered):
    """`in` from the customer, `out` from here, `colleague`: written by a person elsewhere."""

    at: datetime.datetime | None
    direction: Literal["in", "out", "colleague"]
    message_type: str
    status: str | None
    payload: dict[str, Any]


class TurnSummary(Answered):
    id: int
    status: str
    route: str | None
    outcome: str | None
    message_count: int
    created_at: datetime.datetime
    processed_at: datetime.datetime | None


class Transition(Answered):
    at: datetime.datetime
    from_status: str
    to_status: str
    reason: str | None


class Conversation(ConversationSummary):
    """With what happened last, the newest first."""

    session: SessionSummary | None
    messages: list[Said]
    turns: list[TurnSummary]
    transitions: list[Transition]


class PauseBody(Body):
    seconds: float | None = Field(
        None,
        gt=0,
        le=LONGEST_TAKEOVER,
        allow_inf_nan=False,
        description="How long the person has it; `inbox.takeover` unless given.",
        examples=[3600],
    )
    until_resumed: bool = Field(default=False, description="Until it is handed back.")
    reason: str = Field("by the API", min_length=1, max_length=200)


class Conversations:
    """The handler, over conversations and the outbox."""

    def __init__(
        self,
        replies: ReplyStore,
        conversations: ConversationStore,
        *,
        takeover: datetime.timedelta,
    ) -> None:
        """`takeover`: how long a person has a conversation, unless the caller says."""
        self._replies = replies
        self._conversations = conversations
        self._takeover = takeover

    def operations(self) -> Sequence[Operation[Any, Any]]:
        return (
            *self._looking(),
            *self._steering(),
            Operation(
                name="replyToConversation",
                method="POST",
                path="/api/conversations/{id}/reply",
                summary="Answer a conversation outside of a turn, as a handler would, or as a person.",
                scope="send",
                params=ReplyParameters,
                body=ReplyBody,
                handle=self.reply,
                answers={HTTPStatus.CREATED: Reply, HTTPStatus.OK: Reply},
                refusals=(HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT),
            ),
        )

    def _looking(self) -> Sequence[Operation[Any, Any]]:
        return (
            Operation(
                name="listConversations",
                method="GET",
                path="/api/conversations",
                summary="Conversations, the newest first.",
                scope="read",
                params=ListParameters,
                body=Nothing,
                handle=self.list,
                answers={HTTPStatus.OK: ConversationPage},
            ),
            Operation(
                name="getConversation",
                method="GET",
                path="/api/conversations/{id}",
                summary="One conversation: who has it, its session, and what was said last.",
                scope="read",
                params=ById,
                body=Nothing,
                handle=self.get,
                answers={HTTPStatus.OK: Conversation},
                refusals=(HTTPStatus.NOT_FOUND,),
            ),
        )

    def _steering(self) -> Sequence[Operation[Any, Any]]:
        return (
            Operation(
                name="pauseConversation",
                method="POST",
                path="/api/conversations/{id}/pause",
                summary="A person answers from now on; the daemon is silent.",
                scope="send",
                params=ById,
                body=PauseBody,
                handle=self.pause,
                answers={HTTPStatus.OK: Conversation},
                refusals=(HTTPStatus.NOT_FOUND,),
                audited=True,
            ),
            Operation(
                name="resumeConversation",
                method="POST",
                path="/api/conversations/{id}/resume",
                summary="The daemon answers again.",
                scope="send",
                params=ById,
                body=Nothing,
                handle=self.resume,
                answers={HTTPStatus.OK: Conversation},
                refusals=(HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT),
                audited=True,
            ),
        )

    async def list(self, call: Call[ListParameters, Nothing]) -> Answer:
        asked = call.params
        chosen = Chosen(asked.status, asked.channel or None, asked.contact or None)
        rows = await self._conversations.list(chosen, limit=asked.limit + 1, before=asked.cursor)
        shown = [ConversationSummary.model_validate(row) for row in rows[: asked.limit]]
        more = len(rows) > asked.limit
        return Answer(
            document=ConversationPage(
                conversations=shown, next_cursor=shown[-1].id if more else None
            )
        )

    async def get(self, call: Call[ById, Nothing]) -> Answer:
        return await self._shown(call.params.id)

    async def pause(self, call: Call[ById, PauseBody]) -> Answer:
        body = call.body
        given = self._takeover if body.seconds is None else datetime.timedelta(seconds=body.seconds)
        await self._conversations.take_over(
            call.params.id, takeover=None if body.until_resumed else given, reason=body.reason
        )
        return await self._shown(call.params.id)

    async def resume(self, call: Call[ById, Nothing]) -> Answer:
        changed = await self._conversations.hand_back(call.params.id, reason="by the API")
        answer = await self._shown(call.params.id)
        if not changed:
            raise Problem(HTTPStatus.CONFLICT, f"Conversation {call.params.id}: no person has it.")
        return answer

    async def _shown(self, conversation_id: int) -> Answer:
        found = await self._conversations.get(conversation_id)
        if found is None:
            raise _missing(conversation_id)
        return Answer(document=Conversation.model_validate(found))

    async def reply(self, call: Call[ReplyParameters, ReplyBody]) -> Answer:
        body, conversation_id = call.body, call.params.id
        if found := faults(body.messages):
            raise unprocessable([Fault(each.field, each.reason) for each in found])
        session = body.session
        try:
            result, message_ids = await self._replies.reply(
                conversation_id,
                messages=body.messages,
                session=None if session is None else session.model_dump(exclude_unset=True),
                handover=body.handover,
                idempotency_key=call.params.idempotency_key,
                correlation_id=call.correlation_id,
                human=body.human,
            )
        except PayloadError as error:
            raise unprocessable([Fault(error.field, error.reason)]) from None
        if result == "missing":
            raise _missing(conversation_id)
        if result == "human":
            raise Problem(
                HTTPStatus.CONFLICT, f"Conversation {conversation_id}: a human answers it now."
            )
        new = result == "replied" and bool(message_ids)
        return Answer(
            document=Reply(conversation_id=conversation_id, message_ids=list(message_ids)),
            status=HTTPStatus.CREATED if new else HTTPStatus.OK,
        )


def _missing(conversation_id: int) -> Problem:
    return Problem(HTTPStatus.NOT_FOUND, f"There is no conversation {conversation_id}.")
