"""Conversations, to look at and to hand to a person and back. Functions of schema.sql do the work."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import Any, Final, NamedTuple, cast

import asyncpg
import orjson

from waemitter.db.pool import outages


class Chosen(NamedTuple):
    """Which conversations; None = any. `contact`: a phone number or a user id."""

    status: str | None = None
    channel: str | None = None
    contact: str | None = None


class ConversationStore:
    def __init__(self, pool: asyncpg.Pool[asyncpg.Record]) -> None:
        self._pool = pool

    LIST: Final = """
        select v.id, v.channel, v.status, coalesce(c.phone, c.user_id, c.group_id) as contact, c.name, v.last_inbound_at,
               case when v.takeover_until > clock_timestamp() then v.takeover_until end as takeover_until, v.locked_at,
               v.lock_expires_at, v.created_at, v.updated_at
        from waemitter.conversations v join waemitter.contacts c on c.id = v.contact_id
        where ($1::text is null or v.status = $1) and ($2::text is null or v.channel = $2)
          and ($3::text is null or v.contact_id in (
            select a.contact_id from waemitter.contact_addresses a where a.address = waemitter.address($3)))
          and v.id < coalesce($5, 9223372036854775807)
        order by v.id desc limit $4
    """

    async def list(
        self, chosen: Chosen, *, limit: int, before: int | None = None
    ) -> Sequence[dict[str, Any]]:
        """The newest first; `before` an id pages on. Of a takeover only one that lasts is told."""
        with outages():
            records = await self._pool.fetch(self.LIST, *chosen, limit, before)
        return [_row(record) for record in records]

    GET: Final = """
        select v.id, v.channel, v.status, coalesce(c.phone, c.user_id, c.group_id) as contact, c.name, v.last_inbound_at,
               case when v.takeover_until > clock_timestamp() then v.takeover_until end as takeover_until, v.locked_at,
               v.lock_expires_at, v.created_at, v.updated_at, s.active_service, s.context::text as session_context
        from waemitter.conversations v join waemitter.contacts c on c.id = v.contact_id
        left join waemitter.user_sessions s on s.channel = v.channel and s.contact_id = v.contact_id
        where v.id = $1
    """
    MESSAGES: Final = """
        select at, direction, message_type, status, payload from (
          (select created_at as at, case when from_us then 'colleague' else 'in' end as direction, message_type,
                  null as status, payload::text as payload
           from waemitter.inbound_messages where conversation_id = $1 order by id desc limit $4)
          union all
          (select claimed_at, 'out', message_type, status, payload::text from waemitter.outbox_messages
           where channel = $2 and waemitter.address(recipient) = waemitter.address($3) and available_at is null and lane <> ''
           order by claimed_at desc nulls last limit $4)) m
        order by at desc nulls last limit $4
    """
    TURNS: Final = """
        select id, status, route, outcome, message_count, created_at, processed_at from waemitter.message_buffer
        where conversation_id = $1 order by id desc limit 10
    """
    TRANSITIONS: Final = """
        select at, from_status, to_status, reason from waemitter.conversation_state_transitions
        where conversation_id = $1 order by id desc limit 20
    """

    async def get(self, conversation_id: int, *, messages: int = 20) -> dict[str, Any] | None:
        """One with its session, and its latest messages, turns and transitions, the newest first; None when there is none.

        `messages`: how many of them at most, out of those that were sent by themselves, and not by a campaign.
        """
        with outages():
            async with self._pool.acquire() as connection:
                record = await connection.fetchrow(self.GET, conversation_id)
                if record is None:
                    return None
                found = _row(record)
                said = await connection.fetch(
                    self.MESSAGES,
                    conversation_id,
                    found["channel"],
                    found["contact"] or "",
                    messages,
                )
                turns = await connection.fetch(self.TURNS, conversation_id)
                moves = await connection.fetch(self.TRANSITIONS, conversation_id)
        service, context = found.pop("active_service"), found.pop("session_context")
        return found | {
            "session": None
            if context is None
            else {"active_service": service, "context": orjson.loads(context)},
            "messages": [dict(each) | {"payload": orjson.loads(each["payload"])} for each in said],
            "turns": [dict(each) for each in turns],
            "transitions": [dict(each) for each in moves],
        }

    TAKE_OVER: Final = """
        select until is not null as known, nullif(until, 'infinity') as until
        from waemitter.take_over_conversation(conversation_id => $1, takeover => $2, reason => $3) as until
    """

    async def take_over(
        self, conversation_id: int, *, takeover: datetime.timedelta | None, reason: str
    ) -> tuple[bool, datetime.datetime | None]:
        """A person answers from now on. Whether there is such a conversation; until when, None = until it is handed back."""
        with outages():
            record = await self._pool.fetchrow(self.TAKE_OVER, conversation_id, takeover, reason)
        assert record is not None  # noqa: S101 the function returns a row
        return record["known"], record["until"]

    HAND_BACK: Final = (
        "select waemitter.hand_back_conversation(conversation_id => $1, reason => $2)"
    )

    async def hand_back(self, conversation_id: int, *, reason: str) -> bool:
        """The daemon answers again. False: no person had it."""
        with outages():
            return cast("bool", await self._pool.fetchval(self.HAND_BACK, conversation_id, reason))

    UNLOCK: Final = "select waemitter.unlock_conversation(conversation_id => $1, reason => $2)"

    async def unlock(self, conversation_id: int, *, reason: str) -> bool:
        """Take the lock from whoever has it; a turn in progress begins anew. False: nobody had it."""
        with outages():
            return cast("bool", await self._pool.fetchval(self.UNLOCK, conversation_id, reason))

    EXISTS: Final = "select exists (select from waemitter.conversations where id = $1)"

    async def exists(self, conversation_id: int) -> bool:
        with outages():
            return cast("bool", await self._pool.fetchval(self.EXISTS, conversation_id))


def _row(record: asyncpg.Record) -> dict[str, Any]:
    """A takeover without an end is told as `true`, since a timestamp has no infinity here."""
    row = dict(record)
    until = row["takeover_until"]
    row["human"] = until is not None
    if until is not None and until.year >= datetime.MAXYEAR:
        row["takeover_until"] = None
    return row
