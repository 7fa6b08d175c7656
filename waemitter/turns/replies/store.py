"""Late answers, into the outbox. A function of schema.sql does the work."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, NamedTuple, TypeAlias

import asyncpg
import orjson

from waemitter.db.pool import outages
from waemitter.errors import PayloadError

Result: TypeAlias = Literal["replied", "known", "human", "missing"]


class Replied(NamedTuple):
    """`known`: by its idempotency key, nothing was done; `human`: one has the conversation; `missing`: there is none."""

    result: Result
    message_ids: Sequence[int]


class ReplyStore:
    def __init__(
        self,
        pool: asyncpg.Pool[asyncpg.Record],
        *,
        session_ttl: datetime.timedelta,
        takeover: datetime.timedelta,
    ) -> None:
        """`takeover`: how long a human has a conversation that is handed over."""
        self._pool = pool
        self._ttl = session_ttl
        self._takeover = takeover

    REPLY: Final = """
        select result, message_ids from waemitter.reply_to_conversation(
          conversation_id => $1, replies => $2::text::jsonb, session => $3::text::jsonb, ttl => $4, handover => $5,
          takeover => $6, idempotency_key => $7, correlation_id => $8, human => $9)
    """

    async def reply(
        self,
        conversation_id: int,
        *,
        messages: Sequence[Mapping[str, Any]],
        session: Mapping[str, Any] | None,
        handover: bool,
        idempotency_key: str | None,
        correlation_id: str,
        human: bool = False,
    ) -> Replied:
        """Send messages to the contact, and change its session: only the keys that `session` holds.

        `human`: a person says it, who has the conversation for a while then.

        Raises PayloadError for what Postgres cannot store, and DatabaseUnreachable.
        """
        try:
            with outages():
                record = await self._pool.fetchrow(
                    self.REPLY,
                    conversation_id,
                    orjson.dumps(messages).decode(),
                    None if session is None else orjson.dumps(session).decode(),
                    self._ttl,
                    handover,
                    self._takeover,
                    idempotency_key,
                    correlation_id,
                    human,
                )
        except asyncpg.DataError as error:
            raise PayloadError(
                "body", "holds what Postgres cannot store, such as \\u0000"
            ) from error
        except TypeError as error:  # an integer beyond 64 bits
            raise PayloadError("body", "holds what cannot be written as JSON") from error
        assert record is not None  # noqa: S101 the function returns a row
        return Replied(record["result"], record["message_ids"])
