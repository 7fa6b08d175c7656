"""A table of due rows in memory, and the loop that drains it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from waemitter.runtime.doorbell import Bell
from waemitter.runtime.due_loop import Claim, DueLoop, Fixed
from waemitter.runtime.supervise import Stop

NOTHING: Claim[int] = Claim()


IN_VAIN: Claim[int] = Claim((), next_due=0.0)


class Table:
    """Answers the claims with what the script says, else with its rows; work ends when the gate opens."""

    def __init__(self, *script: Claim[int] | Exception, rows: int = 0) -> None:
        self.script = deque(script)
        self.left = deque(range(rows))
        self.asked: list[float] = []
        self.limits: list[int] = []
        self.started: list[int] = []
        self.done: list[int] = []
        self.released: list[int] = []
        self.at_once = self.most_at_once = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.permits = asyncio.Semaphore(10_000)
        self.fault: Exception | None = None
        self.claiming = asyncio.Event()
        self.claiming.set()

    async def claim(self, limit: int) -> Claim[int]:
        self.asked.append(asyncio.get_running_loop().time())
        self.limits.append(limit)
        await self.claiming.wait()
        if not self.script:
            taken = [self.left.popleft() for _ in range(min(limit, len(self.left)))]
            return Claim(taken, next_due=0.0 if self.left else None)
        told = self.script.popleft()
        if isinstance(told, Exception):
            raise told
        return told

    async def work(self, row: int) -> None:
        self.started.append(row)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        if self.fault:
            raise self.fault
        await self.gate.wait()
        await self.permits.acquire()
        await asyncio.sleep(0)
        self.at_once -= 1
        self.done.append(row)

    async def release(self, rows: Sequence[int]) -> None:
        await asyncio.sleep(0)
        self.released += rows

    def pauses(self) -> list[float]:
        return [after - before for before, after in zip(self.asked, self.asked[1:], strict=False)]


@dataclass
class Elastic:
    """A capacity that somebody changes."""

    size: int
    ahead: int = 0

    def workers(self) -> int:
        return self.size

    def reserve(self) -> int:
        return self.ahead


@dataclass
class Running:
    bell: Bell
    stop: Stop
    losses: list[str] = field(default_factory=list)


@asynccontextmanager
async def draining(
    table: Table,
    *,
    capacity: Fixed | Elastic = Fixed(10),  # noqa: B008  frozen
    batch_size: int = 100,
    sweep_interval: float = 60.0,
    jitter: Callable[[], float] = lambda: 1.0,
) -> AsyncIterator[Running]:
    running = Running(Bell(), Stop(grace=5))
    loop = DueLoop(
        table,
        running.bell,
        capacity=capacity,
        batch_size=batch_size,
        sweep_interval=sweep_interval,
        jitter=jitter,
        database_lost=running.losses.append,
    )
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        group.create_task(loop.run(running.stop))
        yield running
        running.stop.request()


def waits_of(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Every patience with which a bell is listened to; all but a sweep's are over at once."""
    waits: list[float] = []
    heard = Bell.heard

    async def impatient(self: Bell, patience: float | None = None) -> bool:
        assert patience is not None
        waits.append(patience)
        await asyncio.sleep(0)
        return await heard(self, patience if patience > 1 else 0)

    monkeypatch.setattr(Bell, "heard", impatient)
    return waits
