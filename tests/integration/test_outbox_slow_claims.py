"""While a transaction holds an old snapshot: claims do not step over all that has left the queue since."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Final

import asyncpg
import pytest

from waemitter.db.pool import open_connection
from waemitter.db.schema import Connection

CLAIM: Final = """
    select message_id from waemitter.claim_messages('default', $1, '15 s', '0.2 s', '60 s', 'retry', 5)
    where message_id is not null
"""
EXPLAINED: Final = """
    explain (analyze, buffers, format json)
    select * from waemitter.claim_messages('default', 100, '15 s', '0.2 s', '60 s', 'retry', 5)
"""
ADD: Final = """
    insert into waemitter.outbox_messages (recipient, ordering_key, message_type, payload, priority, available_at)
    select '+1415' || 5550000 + n, '', 'text', '{"body": "Hello"}', $2::integer, clock_timestamp() - $3::text::interval
    from generate_series(1, $1::integer) n returning id
"""
END: Final = "update waemitter.outbox_messages set available_at = null, status = 'sent' where claimed_at is null"
LOW: Final = "select low, low_priority, low_until > clock_timestamp() as believed from waemitter.channel_buckets"
OVER: Final = "update waemitter.channel_buckets set low_until = clock_timestamp()"


@pytest.fixture
async def claimer(dsn: str) -> AsyncIterator[Connection]:
    """To whom every claim is a slow one."""
    async with open_connection(dsn) as connection:
        await connection.execute("set waemitter.slow_claim = '0 s'")
        await connection.execute("update waemitter.channels set messages_per_second = 0")
        yield connection


async def add(
    connection: Connection, count: int = 1, *, priority: int = 0, ago: str = "0"
) -> list[int]:
    rows = await connection.fetch(ADD, count, priority, ago)
    return [row["id"] for row in rows]


async def claimed(connection: Connection, most: int = 100) -> list[int]:
    return [row["message_id"] for row in await connection.fetch(CLAIM, most)]


async def low(connection: Connection) -> asyncpg.Record:
    row = await connection.fetchrow(LOW)
    assert row is not None
    return row


async def test_after_a_slow_look_claims_begin_where_it_found_something(claimer: Connection) -> None:
    first, second = await add(claimer, 2, ago="1 minute")
    assert await claimed(claimer, 1) == [first]
    due = await claimer.fetchval(
        "select available_at from waemitter.outbox_messages where id = $1", second
    )
    assert tuple(await low(claimer)) == (due, 0, True)

    (late,) = await add(claimer, ago="1 hour")  # it was due long ago, and is committed only now
    assert await claimed(claimer) == [second]
    assert await claimed(claimer) == []
    await claimer.execute(OVER)
    assert await claimed(claimer) == [late]  # by the next whole look


async def test_priorities_that_a_slow_look_did_not_reach_are_looked_at_whole(
    claimer: Connection,
) -> None:
    (waits,) = await add(claimer, ago="1 hour")
    first, second = await add(claimer, 2, priority=5, ago="1 minute")
    assert await claimed(claimer, 1) == [first]
    assert (await low(claimer))["low_priority"] == 5
    (urgent,) = await add(claimer, priority=9)
    assert await claimed(claimer) == [urgent, second, waits]

    await claimer.execute(OVER)
    assert await claimed(claimer) == []
    assert (await low(claimer))["low_priority"] == -32768  # all of them were
    later = await add(claimer, 2, priority=-7)
    assert await claimed(claimer) == later


async def test_a_quick_look_is_not_remembered(claimer: Connection) -> None:
    await claimer.execute("set waemitter.slow_claim = '1 hour'")
    added = await add(claimer, 3)
    assert await claimed(claimer) == added
    assert tuple(await low(claimer)) == (None, None, None)


async def test_what_a_held_snapshot_keeps_in_the_index_is_stepped_over_once(
    claimer: Connection, dsn: str
) -> None:
    async with open_connection(dsn) as holder, holder.transaction(isolation="repeatable_read"):
        await holder.fetchval("select count(*) from waemitter.outbox_messages")
        await add(claimer, 5000, ago="1 hour")
        await claimer.execute(END)
        whole = await pages(claimer)
        again = await pages(claimer)
    assert whole > 1000
    assert again < whole / 4


async def pages(connection: Connection) -> int:
    """What a claim of nothing touches."""
    (told,) = json.loads(await connection.fetchval(EXPLAINED))
    return int(told["Plan"]["Shared Hit Blocks"] + told["Plan"]["Shared Read Blocks"])
