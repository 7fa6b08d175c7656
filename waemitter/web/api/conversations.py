"""`/api/conversations/{id}/reply`: what a handler says later than its turn."""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

from pydantic import Field

from waemitter.errors import PayloadError
from waemitter.turns.answers import AnswerDocument, faults
from waemitter.turns.replies.store import ReplyStore
from waemitter.web.api.messages import SendParameters
from waemitter.web.api.model import Answered
from waemitter.web.api.operation import Answer, Call, Operation
from waemitter.web.problems import Fault, Problem, unprocessable

class ReplyParameters(SendParameters):
    id: int = Field(ge=1, le=2**63 - 1)


class Reply(Answered):
    """`messageIds`: rows of the outbox, in the order of the messages."""

    conversation_id: int
    message_ids: list[int]


class Conversations:
    """The handler, over conversations and the outbox."""

    def __init__(self, replies: ReplyStore) -> None:
        self._replies = replies

    def operations(self) -> Sequence[Operation[Any, Any]]:
        return (
            Operation(
                name="replyToConversation",
                method="POST",
                path="/api/conversations/{id}/reply",
                summary="Answer a conversation outside of a turn, as a handler would.",
                scope="send",
                params=ReplyParameters,
                body=AnswerDocument,
                handle=self.reply,
                answers={HTTPStatus.CREATED: Reply, HTTPStatus.OK: Reply},
                refusals=(HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT),
            ),
        )

    async def reply(self, call: Call[ReplyParameters, AnswerDocument]) -> Answer:
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
            )
        except PayloadError as error:
            raise unprocessable([Fault(error.field, error.reason)]) from None
        if result == "missing":
            raise Problem(HTTPStatus.NOT_FOUND, f"There is no conversation {conversation_id}.")
        if result == "human":
            raise Problem(
                HTTPStatus.CONFLICT, f"Conversation {conversation_id}: a human answers it now."
            )
        new = result == "replied" and bool(message_ids)
        return Answer(
            document=Reply(conversation_id=conversation_id, message_ids=list(message_ids)),
            status=HTTPStatus.CREATED if new else HTTPStatus.OK,
        )
