"""What the pages read. Every statement is bounded: by an index, by a limit, or by the newest WINDOW rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import asyncpg

from waemitter.db.pool import outages

WINDOW: Final = 10_000
"""Rows of the outbox that a filter looks through before it asks whether to look further back."""


class Filter(NamedTuple):
    """Which messages; None = any. The order is that of LIST."""

    status: str | None = None
    channel: str | None = None
    campaign_id: int | None = None
    error_code: int | None = None
    recipient: str | None = None


class Found(NamedTuple):
    """`further`: the id before which to look on, None at the end of the table."""

    rows: Sequence[dict[str, Any]]
    further: int | None


class DashboardStore:
    def __init__(self, pool: asyncpg.Pool[asyncpg.Record]) -> None:
        self._pool = pool

    CHANNELS: Final = """
        select c.name, c.kind, c.display_number, c.messages_per_second, c.quality, c.tier, c.paused_until, c.pause_reason,
               c.paused_at, c.paused_until > clock_timestamp() as paused, c.statuses_seen_at, c.token_expires_at,
               c.token_expires_at < clock_timestamp() + interval '14 days' as token_ends,
               waemitter.send_rate(c.messages_per_second, c.throttle, c.throttled_at, b.inbound, b.inbound_at, now()) as rate,
               c.throttled_at > clock_timestamp() - interval '5 minutes' as throttled,
               (select count(*) from waemitter.held_templates h where h.channel = c.name) as held_templates
        from waemitter.channels c join waemitter.channel_buckets b on b.channel = c.name order by c.name
    """

    async def channels(self) -> Sequence[dict[str, Any]]:
        return await self._all(self.CHANNELS)

    ERRORS: Final = """
        select d.direction, d.stage, d.error_code, min(d.error) as error, count(*) as letters, max(d.created_at) as latest
        from (select direction, stage, error_code, error, created_at from waemitter.dead_letters order by id desc limit 2000) d
        where d.created_at > clock_timestamp() - interval '1 hour' group by 1, 2, 3 order by 5 desc, 6 desc limit 8
    """
    SIZES: Final = """
        select relname::text as name, greatest(reltuples, 0)::bigint as rows
        from pg_class where oid in ('waemitter.outbox_messages'::regclass, 'waemitter.inbound_messages'::regclass)
    """

    async def errors(self) -> Sequence[dict[str, Any]]:
        """What became a dead letter in the last hour, of the newest 2,000; the most frequent first."""
        return await self._all(self.ERRORS)

    async def sizes(self) -> dict[str, int]:
        """Rows of the large tables, as the planner estimates them."""
        return {row["name"]: row["rows"] for row in await self._all(self.SIZES)}

    LIST: Final = """
        select id, channel, recipient, message_type, status, hold, attempts, error_code, error_message, created_at,
               coalesce(due_at, available_at) as due, sent_at, campaign_id
        from (select * from waemitter.outbox_messages where id < coalesce($6, 9223372036854775807)
              order by id desc limit 10000) w
        where ($1::text is null or status = $1) and ($2::text is null or channel = $2)
          and ($3::bigint is null or campaign_id = $3) and ($4::integer is null or error_code = $4)
          and ($5::text is null or waemitter.address(recipient) = waemitter.address($5))
        order by id desc limit $7
    """
    CAMPAIGN: Final = """
        select id, channel, recipient, message_type, status, hold, attempts, error_code, error_message, created_at,
               coalesce(due_at, available_at) as due, sent_at, campaign_id
        from (select * from waemitter.outbox_messages
              where campaign_id = $3::bigint and id < coalesce($6, 9223372036854775807)
              order by campaign_id desc, id desc limit 10000) w
        where ($1::text is null or status = $1) and ($2::text is null or channel = $2)
          and ($4::integer is null or error_code = $4)
          and ($5::text is null or waemitter.address(recipient) = waemitter.address($5))
        order by id desc limit $7
    """
    FLOOR: Final = """
        select min(id) from (select id from waemitter.outbox_messages where id < coalesce($1, 9223372036854775807)
                             order by id desc limit 10000) w having count(*) = 10000
    """
    CAMPAIGN_FLOOR: Final = """
        select min(id) from (select id from waemitter.outbox_messages
                             where campaign_id = $2 and id < coalesce($1, 9223372036854775807)
                             order by campaign_id desc, id desc limit 10000) w having count(*) = 10000
    """

    async def messages(self, chosen: Filter, *, limit: int, before: int | None = None) -> Found:
        """The newest first, out of WINDOW rows before an id."""
        statement = self.LIST if chosen.campaign_id is None else self.CAMPAIGN
        rows = await self._all(statement, *chosen, before, limit)
        if len(rows) == limit:
            return Found(rows, rows[-1]["id"])
        with outages():
            if chosen.campaign_id is None:
                floor = await self._pool.fetchval(self.FLOOR, before)
            else:
                floor = await self._pool.fetchval(self.CAMPAIGN_FLOOR, before, chosen.campaign_id)
        return Found(rows, floor)

    BY_WAMID: Final = (
        "select id from waemitter.outbox_messages where whatsapp_message_id = $1 limit 1"
    )

    async def by_wamid(self, wamid: str) -> int | None:
        with outages():
            found: int | None = await self._pool.fetchval(self.BY_WAMID, wamid)
        return found

    TELL: Final = "select pg_notify('waemitter_dashboard', '')"

    async def tell(self) -> None:
        """Let the viewers at all daemons look again."""
        with outages():
            await self._pool.execute(self.TELL)

    AUDIT: Final = """
        select id, at, action, target, actor, key_name, request_id from waemitter.audit_log
        where id < coalesce($1, 9223372036854775807) order by id desc limit $2
    """

    async def audit(self, *, limit: int, before: int | None) -> Sequence[dict[str, Any]]:
        return await self._all(self.AUDIT, before, limit)

    async def _all(self, statement: str, *arguments: Any) -> list[dict[str, Any]]:
        with outages():
            return [dict(record) for record in await self._pool.fetch(statement, *arguments)]
