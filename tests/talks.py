"""Conversations as the machine of their tests drives them: messages kept and gathered, time that passes, what the rows say."""

from __future__ import annotations

import datetime
import itertools
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import asyncpg

from waemitter.db.pool import open_pool
from waemitter.inbox.gathering.store import GatheringStore, Placed
from waemitter.turns.store import Claimed, Hold, Outcome, Terms, TurnStore
from waemitter.turns.turn import Answer

LEASE: Final = datetime.timedelta(minutes=2)
TTL: Final = datetime.timedelta(hours=24)
TALKERS: Final = 2
BEGIN: Final = """
    truncate waemitter.contacts, waemitter.conversations, waemitter.inbound_messages, waemitter.message_buffer,
      waemitter.buffered_messages, waemitter.buffer_processing_jobs, waemitter.user_sessions, waemitter.dead_letters,
      waemitter.outbox_messages, waemitter.conversation_state_transitions restart identity cascade;
    update waemitter.feature_flags set is_enabled = true where flag_name = 'buffer_processing';
"""
TALKER: Final = """
    with who as (insert into waemitter.contacts (channel, wa_id) values ('default', $1) returning id)
    insert into waemitter.conversations (channel, contact_id) select 'default', id from who returning id
"""
SAID: Final = """
    insert into waemitter.inbound_messages (conversation_id, whatsapp_message_id, message_type, payload)
    values ($1, $2, 'text', jsonb_build_object('id', $2::text)) returning id
"""
BUFFERS: Final = """
    select b.*, j.status as job, array(select m.whatsapp_message_id from waemitter.buffered_messages m
                                       where m.buffer_id = b.id order by 1) as wamids
    from waemitter.message_buffer b join waemitter.buffer_processing_jobs j on j.buffer_id = b.id order by b.id
"""
CLOSE: Final = """
    update waemitter.message_buffer set closes_at = clock_timestamp() - interval '1 ms'
    where conversation_id = $1 and status = 'open' and not waits
"""
RETRY_COMES: Final = """
    update waemitter.message_buffer b set closes_at = clock_timestamp() - interval '1 ms'
    from waemitter.buffer_processing_jobs j
    where b.conversation_id = $1 and b.status = 'processing' and not b.waits and j.buffer_id = b.id and j.status = 'scheduled'
"""
LEASE_ENDS: Final = """
    with gone as (
      update waemitter.conversations set lock_expires_at = clock_timestamp() - interval '1 ms'
      where id = $1 and lock_id is not null returning id)
    update waemitter.message_buffer b set closes_at = clock_timestamp() - interval '1 ms'
    from gone where b.conversation_id = gone.id and b.closes_at is not null and (b.waits or b.status = 'processing')
"""
EVERYTHING_IS_DUE: Final = """
    update waemitter.message_buffer set closes_at = clock_timestamp() - interval '1 ms' where closes_at is not null
"""
UNCHANGED: Final = """
    select (select jsonb_agg(to_jsonb(v) order by v.id) from waemitter.conversations v)::text,
           (select jsonb_agg(to_jsonb(b) order by b.id) from waemitter.message_buffer b)::text,
           (select jsonb_agg(to_jsonb(s) order by s.id) from waemitter.user_sessions s)::text,
           (select jsonb_agg(to_jsonb(d) order by d.id) from waemitter.dead_letters d)::text,
           (select count(*) from waemitter.outbox_messages)
"""


@dataclass
class Talks:
    """`heard`: which conversation each message was said in."""

    pool: asyncpg.Pool[asyncpg.Record]
    turns: TurnStore
    conversations: list[int]
    heard: dict[str, int] = field(default_factory=dict)
    _numbers: Any = field(default_factory=itertools.count)

    async def hear(
        self, conversation: int, count: int, *, size: int, sliding: bool, at_once: bool
    ) -> None:
        async with self.pool.acquire() as connection, connection.transaction():
            placed = []
            for _ in range(count):
                wamid = f"wamid.{next(self._numbers)}"
                message = await connection.fetchval(SAID, conversation, wamid)
                placed.append(Placed(message, 30.0, 300.0, size, sliding, at_once))
                self.heard[wamid] = conversation
            await GatheringStore().gather(connection, placed, rate=10_000, enhanced=None)

    async def claim(self, limit: int, *, only: int | None = None) -> Sequence[Claimed]:
        return (await self.turns.claim(limit, lease=LEASE, ttl=TTL, only=only)).turns

    async def commit(
        self, claimed: Claimed, replies: int, *, discard: bool = False, handover: bool = False
    ) -> Outcome:
        message = {"type": "text", "text": {"body": "Yes"}}
        return await self.turns.commit(
            claimed.hold,
            Answer(messages=[message] * replies, handover=handover),
            route="r",
            before=claimed.session,
            discard=discard,
            terms=Terms(TTL, LEASE, 3),
        )

    async def holds(self, hold: Hold) -> bool:
        """Whether the conversation's lock is this one's, by its row."""
        return bool(
            await self.value(
                "select true from waemitter.conversations where lock_id = $1 and fence = $2",
                hold.lock_id,
                hold.fence,
            )
        )

    async def conversation(self, conversation: int) -> Mapping[str, Any]:
        row = await self.pool.fetchrow(
            "select *, lock_id is not null and lock_expires_at > clock_timestamp() as held,"
            " coalesce(takeover_until > clock_timestamp(), false) as human"
            " from waemitter.conversations where id = $1",
            conversation,
        )
        assert row is not None
        return dict(row)

    async def buffers(self) -> Sequence[Mapping[str, Any]]:
        return [dict(row) for row in await self.pool.fetch(BUFFERS)]

    async def everything(self) -> tuple[Any, ...]:
        """What a worker that has lost its lock must not have changed."""
        row = await self.pool.fetchrow(UNCHANGED)
        assert row is not None
        return tuple(row)

    async def replies(self) -> dict[int, int]:
        """How many answers there are, by turn."""
        rows = await self.pool.fetch(
            "select split_part(idempotency_key, ':', 2)::bigint as turn, count(*) as n"
            " from waemitter.outbox_messages group by 1"
        )
        return {row["turn"]: row["n"] for row in rows}

    async def value(self, statement: str, *arguments: object) -> Any:
        return await self.pool.fetchval(statement, *arguments)

    async def acquire(self, conversation: int, lock: uuid.UUID) -> bool:
        return bool(
            await self.value(
                "select waemitter.acquire_conversation_lock($1, $2)", conversation, lock
            )
        )

    async def release(self, conversation: int, lock: uuid.UUID) -> bool:
        return bool(
            await self.value(
                "select waemitter.release_conversation_lock($1, $2)", conversation, lock
            )
        )


@asynccontextmanager
async def talks_at(dsn: str) -> AsyncIterator[Talks]:
    """Two customers, who have said nothing yet."""
    async with open_pool(dsn, size=2) as pool:
        await pool.execute(BEGIN)
        talkers = [await pool.fetchval(TALKER, f"1415555{talker:04}") for talker in range(TALKERS)]
        yield Talks(pool, TurnStore(pool), talkers)
