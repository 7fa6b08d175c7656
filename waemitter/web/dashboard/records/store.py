"""What the pages about campaigns, webhooks and conversations read; each statement is bounded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import asyncpg

from waemitter.db.pool import outages


class RecordStore:
    def __init__(self, pool: asyncpg.Pool[asyncpg.Record]) -> None:
        self._pool = pool

    FAILURES: Final = """
        select error_code, min(error_message) as error, count(*) as messages
        from (select status, error_code, error_message from waemitter.outbox_messages where campaign_id = $1
              order by campaign_id desc, id desc limit 20000) w
        where status = 'failed' group by 1 order by 3 desc, 1 limit 10
    """

    async def failures(self, campaign_id: int) -> Sequence[dict[str, Any]]:
        """By Meta's code, among the newest 20,000 messages of a campaign."""
        return await self._all(self.FAILURES, campaign_id)

    WEBHOOKS: Final = """
        select id, source, bytes, attempts, created_at, processed_at, error, state
        from (select id, source, octet_length(body) as bytes, attempts, created_at, processed_at, error,
                     case when available_at is not null then 'waiting' when processed_at is null then 'failed'
                          else 'processed' end as state
              from waemitter.webhook_logs where id < coalesce($2, 9223372036854775807) order by id desc limit 5000) w
        where ($1::text is null or state = $1) order by id desc limit $3
    """

    async def webhooks(
        self, state: str | None, *, before: int | None, limit: int
    ) -> Sequence[dict[str, Any]]:
        """The newest first, out of 5,000 before an id."""
        return await self._all(self.WEBHOOKS, state, before, limit)

    CONVERSATIONS: Final = """
        select v.id, v.channel, v.status, v.last_inbound_at, v.takeover_until, v.lock_expires_at, v.updated_at,
               coalesce(c.phone, c.user_id, c.group_id) as address
        from waemitter.conversations v join waemitter.contacts c on c.id = v.contact_id
        where ($1::text is null or v.status = $1) and v.id < coalesce($2, 9223372036854775807)
        order by v.id desc limit $3
    """
    CONVERSATION: Final = """
        select v.id, v.channel, v.status, v.last_inbound_at, v.takeover_until, v.lock_expires_at, v.updated_at, c.name,
               coalesce(c.phone, c.user_id, c.group_id) as address
        from waemitter.conversations v join waemitter.contacts c on c.id = v.contact_id where v.id = $1
    """
    HEARD: Final = """
        select id, message_type, payload::text as payload, from_us, coalesce(sent_at, created_at) as at
        from waemitter.inbound_messages where conversation_id = $1 order by coalesce(sent_at, created_at) desc, id desc limit 50
    """
    SAID: Final = """
        select id, message_type, payload::text as payload, status, claimed_at as at from waemitter.outbox_messages
        where channel = $1 and waemitter.address(recipient) = waemitter.address($2)
          and available_at is null and lane <> '' order by claimed_at desc nulls last limit 50
    """
    MOVES: Final = """
        select at, from_status, to_status, reason from waemitter.conversation_state_transitions
        where conversation_id = $1 order by id desc limit 20
    """

    async def conversations(
        self, status: str | None, *, before: int | None, limit: int
    ) -> Sequence[dict[str, Any]]:
        return await self._all(self.CONVERSATIONS, status, before, limit)

    async def conversation(self, conversation_id: int) -> dict[str, Any] | None:
        found = await self._all(self.CONVERSATION, conversation_id)
        return found[0] if found else None

    async def heard(self, conversation_id: int) -> Sequence[dict[str, Any]]:
        return await self._all(self.HEARD, conversation_id)

    async def said(self, channel: str, address: str) -> Sequence[dict[str, Any]]:
        """What was sent to an address by itself, not by a campaign."""
        return await self._all(self.SAID, channel, address)

    async def moves(self, conversation_id: int) -> Sequence[dict[str, Any]]:
        return await self._all(self.MOVES, conversation_id)

    TAKE_OVER: Final = """
        select case when $2 then waemitter.take_over_conversation(
                 conversation_id => $1, takeover => interval '4 hours', reason => 'an operator') is not null
               else waemitter.hand_back_conversation(conversation_id => $1, reason => 'an operator') end as taken
    """

    async def take_over(self, conversation_id: int, *, human: bool) -> int:
        """For four hours, or back to the daemon. Returns how many conversations that are."""
        (found,) = await self._all(self.TAKE_OVER, conversation_id, human)
        return int(found["taken"])

    async def _all(self, statement: str, *arguments: Any) -> list[dict[str, Any]]:
        with outages():
            return [dict(record) for record in await self._pool.fetch(statement, *arguments)]
