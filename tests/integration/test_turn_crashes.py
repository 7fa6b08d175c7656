"""kill -9 at every step of a turn: in the end there is exactly one answer."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from tests.support import eventually
from tests.turns_bench import Talk, talking
from tests.turns_process import STEPS


@asynccontextmanager
async def stuck(dsn: str, step: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """A worker that has come to that step, and goes no further."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.turns_process", dsn, step, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        assert await process.stdout.readline() == b"here\n"
        yield process
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def killed(process: asyncio.subprocess.Process) -> None:
    process.kill()
    assert await process.wait() == -9


async def answered_once(talk: Talk) -> None:
    assert await talk.replies() == ["you said: hello"]
    assert await talk.buffers() == [("completed", 1)]
    assert await talk.status() == "idle"
    assert await talk.value("select lock_id from waemitter.conversations") is None
    assert await talk.bench.letters() == []


@pytest.mark.parametrize("step", STEPS)
async def test_a_daemon_that_is_killed_leaves_exactly_one_answer(dsn: str, step: str) -> None:
    async with talking(dsn) as talk:
        await talk.hear("wamid.1")
        await talk.due()
        async with stuck(dsn, step) as process:
            await killed(process)
        assert len(await talk.replies()) == (1 if step == "committed" else 0)

        await talk.dead()

        assert await talk.work() == (0 if step == "committed" else 1)
        await answered_once(talk)


async def test_a_daemon_that_is_killed_while_postgres_commits_leaves_exactly_one_answer(
    dsn: str,
) -> None:
    async with talking(dsn) as talk:
        await talk.hear("wamid.1")
        await talk.due()
        async with talk.pool.acquire() as barrier, barrier.transaction():
            await barrier.execute("lock table waemitter.user_sessions in exclusive mode")
            async with stuck(dsn, "committing") as process:
                waiting = "select count(*) = 1 from pg_locks where not granted"
                await eventually(lambda: barrier.fetchval(waiting))
                await killed(process)

        await talk.dead()
        await talk.work()

        await answered_once(talk)


async def test_what_is_written_while_a_daemon_is_dead_is_answered_too(dsn: str) -> None:
    async with talking(dsn) as talk:
        await talk.hear("wamid.1")
        await talk.due()
        async with stuck(dsn, "handling") as process:
            await killed(process)
        await talk.hear("wamid.2")

        await talk.dead()
        await talk.work()

        assert len(await talk.replies()) == 2
        assert await talk.buffers() == [("completed", 1), ("completed", 1)]
