"""A connection that is kept: it is the same one each time, nobody waits for it, and the pool gets it back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

import asyncpg
import pytest

from tests.support import eventually
from waemitter.db.at_hand import SPARE, AtHand, at_hand
from waemitter.db.pool import Pool, open_connection, open_pool

WHO: Final = "select pg_backend_pid()"
BLOCKED: Final = "select cardinality(pg_blocking_pids($1)) > 0"


@pytest.fixture
async def pool(dsn: str) -> AsyncIterator[Pool]:
    async with open_pool(dsn, size=SPARE) as pool:
        yield pool


async def who(kept: AtHand) -> int:
    ((pid,),) = await kept.fetch(WHO)
    return int(pid)


async def borrow_all(pool: Pool, connections: int) -> set[int]:
    """Hold so many at once."""
    async with asyncio.timeout(5):
        borrowed = [await pool.acquire() for _ in range(connections)]
    pids = {await connection.fetchval(WHO) for connection in borrowed}
    for connection in borrowed:
        await pool.release(connection)
    return pids


async def test_it_is_the_same_each_time_whoever_borrows_meanwhile(pool: Pool) -> None:
    async with at_hand(pool) as kept:
        first = await who(kept)
        assert first not in await borrow_all(pool, SPARE - 1)
        assert await who(kept) == first
    assert first in await borrow_all(pool, SPARE)


async def test_who_comes_while_it_is_in_use_borrows_another(pool: Pool, dsn: str) -> None:
    async with at_hand(pool) as kept, open_connection(dsn) as other:
        first = await who(kept)
        await other.execute("select pg_advisory_lock(7)")
        waiting = asyncio.create_task(kept.fetch("select pg_advisory_xact_lock(7)"))
        await eventually(lambda: other.fetchval(BLOCKED, first))
        assert await who(kept) != first
        await other.execute("select pg_advisory_unlock(7)")
        await waiting
        assert await who(kept) == first


async def test_when_its_backend_is_killed_another_takes_its_place(pool: Pool) -> None:
    async with at_hand(pool) as kept:
        first = await who(kept)
        await pool.execute("select pg_terminate_backend($1)", first)

        async def replaced() -> bool:
            return await who(kept) != first

        condition: Callable[[], Awaitable[bool] | bool] = replaced
        await eventually(condition)  # who uses a dead connection first may hear of it so
    assert len(await borrow_all(pool, SPARE)) == SPARE


@pytest.mark.parametrize("end", ["it fails", "it is cancelled"])
async def test_a_statement_that_ends_badly_leaves_the_pool_whole(pool: Pool, end: str) -> None:
    async with at_hand(pool) as kept:
        await who(kept)
        if end == "it fails":
            with pytest.raises(asyncpg.DivisionByZeroError):
                await kept.fetch("select 1 / 0")
        else:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await kept.fetch("select pg_sleep(10)")
        assert len(await borrow_all(pool, SPARE)) == SPARE
        assert await who(kept) == await who(kept)


async def test_of_a_small_pool_none_is_kept(dsn: str) -> None:
    async with open_pool(dsn, size=SPARE - 1) as pool, at_hand(pool) as kept:
        await who(kept)
        assert len(await borrow_all(pool, SPARE - 1)) == SPARE - 1
