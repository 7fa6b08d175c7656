"""Splitter and turn worker over a real database, with a script for a router."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import asyncpg

from tests.inbox_bench import NUMBER, Bench, opened, said, told
from waemitter.inbox.gathering.gatherer import Gatherer
from waemitter.inbox.windows import Window
from waemitter.runtime.doorbell import Bell
from waemitter.runtime.due_loop import DueLoop, Fixed
from waemitter.runtime.supervise import Stop
from waemitter.turns.policy import Policy
from waemitter.turns.routing import Decision, Facts, Flags, RoutedWindows, Router, Supersede
from waemitter.turns.store import TurnStore
from waemitter.turns.turn import Answer, Session, Turn
from waemitter.turns.worker import Worker

ADA: Final = "14155550123"
BOB: Final = "14155550124"


def text(body: str) -> dict[str, Any]:
    return {"type": "text", "text": {"body": body}}


@dataclass
class Script:
    """A router with one route, and its handler: `answer` is called with each turn."""

    answer: Callable[[Turn], Awaitable[Answer]] | None = None
    window: Window = field(default_factory=Window)
    supersede: Supersede = "keep"
    service: str | None = None
    ends_session: bool = False
    turns: list[Turn] = field(default_factory=list)
    marked: list[tuple[str, bool]] = field(default_factory=list)
    silent: bool = False

    def decide(self, facts: Facts, session: Session, flags: Flags) -> Decision | None:
        del facts, session, flags
        if self.silent:
            return None
        return Decision(
            route="script",
            reason="there is one route",
            handler=self,
            buffer=self.window,
            supersede=self.supersede,
            service=self.service,
            ends_session=self.ends_session,
        )

    async def handle(self, turn: Turn) -> Answer:
        self.turns.append(turn)
        if self.answer is None:
            return Answer(messages=[text(f"you said: {turn.text}")])
        return await self.answer(turn)

    async def read(self, wamid: str, *, typing: bool) -> None:
        self.marked.append((wamid, typing))


@dataclass
class Talk:
    """A customer's side of it, and the operator's."""

    bench: Bench
    script: Script
    worker: Worker
    pool: asyncpg.Pool[asyncpg.Record]

    async def hear(self, *wamids: str, sender: str = ADA, **more: Any) -> None:
        """Messages arrive, in one webhook, and are split."""
        await self.bench.journal(told(*(said(wamid, sender=sender, **more) for wamid in wamids)))
        await self.bench.split()

    async def due(self) -> None:
        """Time passes for every window, wait and lease."""
        await self.pool.execute(
            "update waemitter.message_buffer set closes_at = now() - interval '1 second' where closes_at is not null"
        )

    async def dead(self) -> None:
        """Whoever held a lock is gone for longer than its lease."""
        await self.pool.execute(
            "update waemitter.conversations set lock_expires_at = now() - interval '1 second' where lock_id is not null"
        )
        await self.due()

    async def work(self) -> int:
        """Work on all that is due; how many turns that were."""
        count = 0
        while rows := (await self.worker.claim(10)).rows:
            await asyncio.gather(*map(self.worker.work, rows))
            count += len(rows)
        return count

    async def turn(self) -> None:
        await self.due()
        assert await self.work() == 1

    async def replies(self) -> list[str]:
        rows = await self.pool.fetch(
            "select payload #>> '{text,body}' from waemitter.outbox_messages order by id"
        )
        return [row[0] for row in rows]

    async def buffers(self) -> list[tuple[str, int]]:
        rows = await self.pool.fetch(
            "select status, message_count from waemitter.message_buffer order by id"
        )
        return [tuple(row) for row in rows]

    async def value(self, query: str, *arguments: object) -> Any:
        return await self.pool.fetchval(query, *arguments)

    async def status(self) -> str:
        status: str = await self.pool.fetchval("select status from waemitter.conversations")
        return status


@asynccontextmanager
async def talking(dsn: str, script: Script | None = None, **policy: Any) -> AsyncIterator[Talk]:
    script = script or Script()
    async with opened(dsn) as bench:
        gathering(bench, script)
        yield Talk(bench, script, worker_of(bench, script, **policy), bench.pool)


def gathering(bench: Bench, script: Script) -> None:
    """What is split goes into windows."""
    bench.splitter._effects._gatherer = Gatherer(
        RoutedWindows(script, Window()),
        events=bench.observed.events,
        rate=20,
        session_ttl=86_400.0,
    )


def worker_of(bench: Bench, script: Script | Router, **policy: Any) -> Worker:
    return Worker(
        TurnStore(bench.pool),
        script,
        courtesies={"default": script} if isinstance(script, Script) else {},
        events=bench.observed.events,
        policy=Policy(**policy),
        clock=lambda: 0.0,
        jitter=lambda: 1.0,
    )


@asynccontextmanager
async def looping(workers: Sequence[Worker], *, sweep: float = 0.05) -> AsyncIterator[None]:
    """Daemons' loops, in this process."""
    stop = Stop(grace=5)
    async with asyncio.TaskGroup() as group:
        for worker in workers:
            loop = DueLoop(
                worker,
                Bell(),
                capacity=Fixed(8),
                batch_size=8,
                sweep_interval=sweep,
                jitter=lambda: 1.0,
            )
            group.create_task(loop.run(stop))
        with contextlib.ExitStack() as cleanup:
            cleanup.callback(stop.request)
            yield


__all__ = [
    "ADA",
    "BOB",
    "NUMBER",
    "Script",
    "Talk",
    "gathering",
    "looping",
    "talking",
    "text",
    "worker_of",
]
