"""What Chatwoot tells, in Postgres, within the transaction of the caller; and what it may not have told."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, NamedTuple, TypeAlias

import asyncpg
import orjson

from waemitter.db.pool import outages
from waemitter.inbox.store import Connection

Moved: TypeAlias = Literal["taken", "returned"]


class Who(NamedTuple):
    """A customer as Chatwoot knows him; the order is that of the functions. `wa_id`: digits of his phone number."""

    wa_id: str | None
    user_id: str | None
    name: str | None
    source_id: str | None


class AgentWrote(NamedTuple):
    """An agent's message: the same as `replies` for a customer, and as words for who remembers; the order is hear_agent()'s."""

    channel: str
    chatwoot_id: int
    key: str
    replies: Sequence[Mapping[str, Any]]
    said: str
    who: Who
    at: datetime.datetime | None
    webhook_id: int | None


class State(NamedTuple):
    """How a conversation is at that time; `tells`: its assignee is told, even if there is none.

    The order is hear_chatwoot_state()'s.
    """

    channel: str
    chatwoot_id: int
    status: str | None
    assignee_id: int | None
    tells: bool
    at: datetime.datetime | None


class Kept(NamedTuple):
    """A part of a message, now one of ours; without ids when it was known, or came from here."""

    result: Literal["received", "duplicate", "ours"]
    message_id: int | None
    conversation_id: int | None
    contact_id: int | None


class Answered(NamedTuple):
    """What became of an agent's message: into the outbox, kept alone, or nothing."""

    result: Literal["sent", "kept", "duplicate", "unknown"]
    conversation_id: int | None
    message_ids: Sequence[int]


class DeskStore:
    def __init__(self, pool: asyncpg.Pool[asyncpg.Record]) -> None:
        self._pool = pool

    RECEIVE: Final = """
        select result, message_id, conversation_id, contact_id
        from waemitter.receive_chatwoot_message(channel => $1, chatwoot_id => $2, key => $3, ids => $4, types => $5,
          payloads => $6, wa_id => $7, user_id => $8, name => $9, source_id => $10, at => $11, webhook_id => $12)
    """

    async def receive(
        self,
        connection: Connection,
        *,
        channel: str,
        chatwoot_id: int,
        key: str,
        parts: Sequence[Mapping[str, Any]],
        who: Who,
        at: datetime.datetime | None,
        webhook_id: int | None,
    ) -> Sequence[Kept]:
        """Keep what a customer wrote, once; one for each part, in their order."""
        records = await connection.fetch(
            self.RECEIVE,
            channel,
            chatwoot_id,
            key,
            [part["id"] for part in parts],
            [part["type"] for part in parts],
            [orjson.dumps(part).decode() for part in parts],
            *who,
            at,
            webhook_id,
        )
        return [Kept(*record) for record in records]

    HEAR_AGENT: Final = """
        select result, conversation_id, message_ids
        from waemitter.hear_agent(channel => $1, chatwoot_id => $2, key => $3, replies => $4::text::jsonb, said => $5,
          wa_id => $6, user_id => $7, name => $8, source_id => $9, at => $10, takeover => $11, webhook_id => $12,
          correlation_id => $3)
    """

    async def hear_agent(
        self, connection: Connection, wrote: AgentWrote, *, takeover: datetime.timedelta
    ) -> Answered:
        record = await connection.fetchrow(
            self.HEAR_AGENT,
            wrote.channel,
            wrote.chatwoot_id,
            wrote.key,
            orjson.dumps(wrote.replies).decode(),
            wrote.said,
            *wrote.who,
            wrote.at,
            takeover,
            wrote.webhook_id,
        )
        assert record is not None  # noqa: S101 the function returns a row
        return Answered(*record)

    HEAR_STATE: Final = """
        select waemitter.hear_chatwoot_state(channel => $1, chatwoot_id => $2, status => $3, assignee_id => $4, tells => $5,
          at => $6, takeover => $7, assigns => $8)
    """

    async def hear_state(
        self, connection: Connection, state: State, *, takeover: datetime.timedelta, assigns: bool
    ) -> Moved | None:
        """What a conversation's status and assignee change here; `assigns`: whoever is assigned has it."""
        moved: Moved | None = await connection.fetchval(self.HEAR_STATE, *state, takeover, assigns)
        return moved

    REMEMBER: Final = """
        insert into waemitter.processed_webhook_messages (whatsapp_message_id, field, scope) values ($1, 'chatwoot', $2)
        on conflict do nothing returning true
    """

    async def fresh(self, connection: Connection, *, channel: str, key: str) -> bool:
        """Remember a message that has no effect; False: it was known."""
        return bool(await connection.fetchval(self.REMEMBER, key, channel))

    UNKNOWN: Final = """
        select k.key from unnest($2::text[]) as k (key)
        where not exists (select from waemitter.processed_webhook_messages p
                          where p.whatsapp_message_id = k.key and p.field = 'chatwoot' and p.scope = $1)
    """

    async def unknown(self, channel: str, keys: Sequence[str]) -> set[str]:
        """Those of the keys of messages that no webhook has brought."""
        with outages():
            return {record["key"] for record in await self._pool.fetch(self.UNKNOWN, channel, keys)}

    RECONCILED: Final = """
        select c.name as channel, coalesce(i.reconciled_until, c.created_at) as until
        from waemitter.channels c left join waemitter.chatwoot_inboxes i on i.channel = c.name where c.name = $1
    """
    SEEN: Final = """
        select chatwoot_id, reconciled_id from waemitter.chatwoot_conversations where channel = $1 and chatwoot_id = any ($2)
    """

    async def reconciled_until(self, channel: str) -> datetime.datetime:
        """Up to when Chatwoot was asked what it told; at first, since when the channel is there."""
        with outages():
            record = await self._pool.fetchrow(self.RECONCILED, channel)
        assert record is not None  # noqa: S101 the channel's row was made at the start
        until: datetime.datetime = record["until"]
        return until

    async def reconciled_ids(self, channel: str, chatwoot_ids: Sequence[int]) -> dict[int, int]:
        """By conversation, the message up to which it was asked for; those that are not known are left out."""
        with outages():
            records = await self._pool.fetch(self.SEEN, channel, chatwoot_ids)
        return {record["chatwoot_id"]: record["reconciled_id"] for record in records}

    NOTE_MESSAGES: Final = """
        update waemitter.chatwoot_conversations set reconciled_id = greatest(reconciled_id, $3)
        where channel = $1 and chatwoot_id = $2
    """

    async def note_messages(self, channel: str, chatwoot_id: int, up_to: int) -> None:
        with outages():
            await self._pool.execute(self.NOTE_MESSAGES, channel, chatwoot_id, up_to)

    NOTE_INBOX: Final = """
        insert into waemitter.chatwoot_inboxes as i (channel, reconciled_until) values ($1, $2)
        on conflict (channel) do update set reconciled_until = greatest(i.reconciled_until, excluded.reconciled_until)
    """

    async def note_inbox(self, channel: str, until: datetime.datetime) -> None:
        with outages():
            await self._pool.execute(self.NOTE_INBOX, channel, until)
