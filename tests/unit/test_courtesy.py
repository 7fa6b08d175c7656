from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import pytest

from waemitter.inbox.journal import courtesy
from waemitter.inbox.journal.courtesy import Courteous
from waemitter.runtime.due_loop import Claim


class Table:
    def __init__(self) -> None:
        self.claims = 0

    async def claim(self, limit: int) -> Claim[int]:
        self.claims += 1
        return Claim([limit])

    async def work(self, row: int) -> None:
        await asyncio.sleep(row / 1000)

    async def release(self, rows: Sequence[int]) -> None: ...


async def busy(until: asyncio.Event) -> None:
    while not until.is_set():
        time.sleep(0.01)  # noqa: ASYNC251 what a flood does to the loop
        await asyncio.sleep(0)


async def test_on_a_busy_loop_it_steps_back_and_on_an_idle_one_it_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pauses: list[float] = []
    real = asyncio.sleep

    async def sleep(seconds: float) -> None:
        if seconds == courtesy.PAUSE:
            pauses.append(seconds)
        await real(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    table, stop = Table(), asyncio.Event()
    courteous = Courteous(table)
    await courteous.work(50)
    async with asyncio.TaskGroup() as group:
        group.create_task(busy(stop))
        await real(0)
        assert (await courteous.claim(7)).rows == [7]
        assert pauses
        pauses.clear()
        await courteous.claim(7)  # it has not worked since, so it has nothing to make up for
        assert not pauses
        stop.set()
    assert table.claims == 2
