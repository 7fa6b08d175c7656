"""What the bench asks of its own Postgres: messages by the thousand, what became of them, and what that cost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import asyncpg


class Outcome(NamedTuple):
    """Rows with a wamid, how many different ones, and when the last was settled (seconds since the epoch)."""

    sent: int
    wamids: int
    last_sent_at: float


PORTION: Final = 100_000
"""Rows of one statement: more might take longer than a statement may."""


class BenchStore:
    def __init__(self, pool: asyncpg.Pool[asyncpg.Record]) -> None:
        self._pool = pool

    CLEAR: Final = "truncate waemitter.outbox_messages, waemitter.outbox_transitions, waemitter.outbox_attempts"
    FREE_SLOTS: Final = "update waemitter.channel_buckets set tat = '-infinity'"
    CHECKPOINT: Final = "checkpoint"

    async def clear(self) -> None:
        """Empty tables, and no checkpoint of earlier work in the middle of what is measured next."""
        await self._pool.execute(self.CLEAR)
        await self._pool.execute(self.FREE_SLOTS)
        await self._pool.execute(self.CHECKPOINT)

    # As an application would: default lanes, a recipient of its own each, a text of two lines.
    ENQUEUE: Final = """
        insert into waemitter.outbox_messages (channel, recipient, message_type, payload)
        select $3, '+1415' || lpad(n::text, 7, '0'), 'text', jsonb_build_object('text', jsonb_build_object('body', format(
          'Order %s has left our house, and will be with you on Tuesday between nine and twelve. You can follow it, or '
          'choose another day or a neighbour, at https://example.com/orders/%s', n, n)))
        from generate_series($1::integer, $2::integer) n
    """
    LSN: Final = "select (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::bigint"

    async def enqueue(self, first: int, last: int, *, channel: str = "default") -> int:
        """Commit messages `first` to `last`, each to `recipient(n)`; returns the WAL position just before the commit."""
        async with self._pool.acquire() as connection, connection.transaction():
            await connection.execute(self.ENQUEUE, first, last, channel)
            position: int = await connection.fetchval(self.LSN)
        return position

    ENQUEUE_ONE: Final = """
        insert into waemitter.outbox_messages (recipient, message_type, payload) values ($1, 'text', $2)
    """

    async def enqueue_one(self, number: int) -> None:
        await self._pool.execute(
            self.ENQUEUE_ONE, f"+{recipient(number)}", '{"text": {"body": "Your code is 123456"}}'
        )

    async def wal_position(self) -> int:
        """Bytes of write-ahead log that this server has written so far."""
        position: int = await self._pool.fetchval(self.LSN)
        return position

    # Recipients at random: as in life, what is due together is not stored together.
    BACKLOG: Final = """
        insert into waemitter.outbox_messages (recipient, message_type, payload, available_at)
        select '+1' || (2000000000 + (random() * 1e9)::bigint), 'text', '{"text": {"body": "Hello"}}',
               clock_timestamp() - interval '1 hour'
        from generate_series(1, $1::integer)
    """

    async def backlog(self, messages: int) -> None:
        """Messages to strangers, due for an hour."""
        await self._pool.execute(self.BACKLOG, messages)

    WITHOUT_TRIGGERS: Final = "set local session_replication_role = replica"
    HISTORY: Final = """
        insert into waemitter.outbox_messages (recipient, message_type, payload, status, available_at, attempts, claimed_at,
                                               sent_at, whatsapp_message_id, token)
        select '+1' || (2000000000 + n), 'text', '{"text": {"body": "Hello"}}', 'sent', null, 1, now() - interval '1 hour',
               now() - interval '1 hour', 'wamid.' || n, n
        from generate_series($1::integer, $2::integer) n
    """

    async def history(self, messages: int, *, start: int = 0) -> None:
        """So many messages that were sent an hour ago, numbered from behind `start`."""
        for first in range(start + 1, start + messages + 1, PORTION):
            last = min(first + PORTION - 1, start + messages)
            async with self._pool.acquire() as connection, connection.transaction():
                await connection.execute(self.WITHOUT_TRIGGERS)
                await connection.execute(self.HISTORY, first, last)

    ONE_LANE: Final = """
        insert into waemitter.outbox_messages (recipient, message_type, payload, available_at)
        select '+14155550123', 'text', '{"text": {"body": "Hello"}}', clock_timestamp() - interval '1 day'
        from generate_series(1, $1::integer)
    """

    async def one_lane(self, messages: int) -> None:
        """Messages to one recipient, due before all others."""
        await self._pool.execute(self.ONE_LANE, messages)

    CLEAR_CAMPAIGNS: Final = "delete from waemitter.campaigns"

    async def clear_campaigns(self) -> None:
        """No campaign bars anything that is measured next."""
        await self._pool.execute(self.CLEAR_CAMPAIGNS)

    CAPPED: Final = """
        with made as (
          insert into waemitter.campaigns (name, status, messages_per_second) values ('bench', 'running', 0.1) returning id)
        insert into waemitter.outbox_messages (recipient, message_type, payload, ordering_key, campaign_id, available_at)
        select '+1' || (2000000000 + n), 'text', '{"text": {"body": "Hello"}}', '', made.id, clock_timestamp() - interval '1 day'
        from made, generate_series(1, $1::integer) n
    """

    async def capped_campaign(self, messages: int) -> None:
        """Messages of one campaign, which may send one in ten seconds, due before all others."""
        await self._pool.execute(self.CAPPED, messages)

    SET_LIMIT: Final = (
        "update waemitter.channels set messages_per_second = $1 where name = 'default'"
    )

    async def set_limit(self, limit: float) -> None:
        await self._pool.execute(self.SET_LIMIT, limit)

    CLAIM: Final = """
        select message_id, token
        from waemitter.claim_messages(channel => 'default', max_rows => $1, lease => '15 s', horizon => '0.2 s',
                                      grace => '60 s', policy => 'retry', retries => 5)
    """

    async def claim(self, limit: int) -> list[tuple[int, int]]:
        """Ids and tokens, as a daemon would get them."""
        records = await self._pool.fetch(self.CLAIM, limit)
        return [(record[0], record[1]) for record in records if record[0] is not None]

    SETTLE: Final = """
        select woken from waemitter.settle_messages(
          ids => $1::bigint[], tokens => $2::bigint[], outcomes => array_fill('sent'::text, array[$3::integer]),
          wamids => array(select 'wamid.' || id from unnest($1::bigint[]) id),
          delays => array_fill(null::float8, array[$3::integer]), codes => array_fill(null::integer, array[$3::integer]),
          reasons => array_fill(null::text, array[$3::integer]))
    """

    async def settle(self, claimed: Sequence[tuple[int, int]]) -> None:
        """All of them were sent."""
        ids, tokens = [id_ for id_, _ in claimed], [token for _, token in claimed]
        await self._pool.execute(self.SETTLE, ids, tokens, len(ids))

    WAITING: Final = """
        select exists (select from waemitter.outbox_messages where available_at is not null and channel = coalesce($1, channel))
    """

    async def waiting(self, channel: str | None = None) -> bool:
        """Whether any message, of this channel if one is named, is still in the queue."""
        waiting: bool = await self._pool.fetchval(self.WAITING, channel)
        return waiting

    SET_PAUSED: Final = """
        update waemitter.channels set paused_until = case when $2 then 'infinity'::timestamptz end where name = $1
    """

    async def set_paused(self, channel: str, *, paused: bool) -> None:
        await self._pool.execute(self.SET_PAUSED, channel, paused)

    OUTCOME: Final = """
        select count(whatsapp_message_id), count(distinct whatsapp_message_id),
               coalesce(extract(epoch from max(sent_at)), 0)::float8
        from waemitter.outbox_messages where channel = $1
    """

    async def outcome(self, channel: str = "default") -> Outcome:
        record = await self._pool.fetchrow(self.OUTCOME, channel)
        assert record is not None  # noqa: S101 an aggregate has one row
        return Outcome(*record)

    DIRECTORY: Final = "show data_directory"

    async def data_directory(self) -> str:
        directory: str = await self._pool.fetchval(self.DIRECTORY)
        return directory

    TRIGGERS_OFF: Final = "alter table waemitter.outbox_messages disable trigger user"
    TRIGGERS_ON: Final = "alter table waemitter.outbox_messages enable trigger user"

    async def set_triggers(self, *, on: bool) -> None:
        await self._pool.execute(self.TRIGGERS_ON if on else self.TRIGGERS_OFF)


def recipient(number: int) -> str:
    """The phone number of the bench's n-th message, without its plus."""
    return f"1415{number:07}"


class PipelineStore:
    """A queue with nothing to it: a body, whether it was taken, and the wamid."""

    def __init__(self, pool: asyncpg.Pool[asyncpg.Record]) -> None:
        self._pool = pool

    CREATE: Final = """
        create schema if not exists bare;
        drop table if exists bare.messages;
        create table bare.messages (
          id bigint generated always as identity primary key, body text not null, status text not null default 'queued',
          wamid text, sent_at timestamptz) with (fillfactor = 70);
        create index on bare.messages (id) where status = 'queued';
    """
    FILL: Final = """
        insert into bare.messages (body)
        select jsonb_build_object('messaging_product', 'whatsapp', 'recipient_type', 'individual',
          'to', '+1415' || lpad(n::text, 7, '0'), 'type', 'text',
          'biz_opaque_callback_data', format('wm1.%s.0123456789abcdef', n),
          'text', jsonb_build_object('body', format(
          'Order %s has left our house, and will be with you on Tuesday between nine and twelve. You can follow it, or '
          'choose another day or a neighbour, at https://example.com/orders/%s', n, n)))::text
        from generate_series(1, $1::integer) n
    """
    SETTLE_IN: Final = "vacuum analyze bare.messages"
    CHECKPOINT: Final = "checkpoint"

    async def fill(self, messages: int) -> None:
        await self._pool.execute(self.CREATE)
        await self._pool.execute(self.FILL, messages)
        await self._pool.execute(self.SETTLE_IN)
        await self._pool.execute(self.CHECKPOINT)

    CLAIM: Final = """
        update bare.messages m set status = 'sending'
        from (select id from bare.messages where status = 'queued' order by id limit $1 for update skip locked) d
        where m.id = d.id returning m.id, m.body
    """

    async def claim(self, limit: int) -> list[tuple[int, str]]:
        return [(id_, body) for id_, body in await self._pool.fetch(self.CLAIM, limit)]

    SETTLE: Final = """
        update bare.messages m set status = 'sent', wamid = d.wamid, sent_at = clock_timestamp()
        from unnest($1::bigint[], $2::text[]) as d (id, wamid) where m.id = d.id
    """

    async def settle(self, ids: Sequence[int], wamids: Sequence[str]) -> None:
        await self._pool.execute(self.SETTLE, ids, wamids)
