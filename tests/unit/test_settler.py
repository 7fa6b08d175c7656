"""Outcomes that come too late: what Meta accepted is told all the same."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from tests.support import eventually
from waemitter.errors import DatabaseUnreachable
from waemitter.outbox.retry import Decision, Outcome
from waemitter.outbox.settler import Settler
from waemitter.outbox.store import Applied, Settled, Settlement

ACCEPTED = Decision(Outcome.SENT, wamid="wamid.1")


class Store:
    def __init__(self, *stale: int) -> None:
        self.stale = list(stale)
        self.late: list[int] = []
        self.freed = 0
        self.outages = 0

    async def settle(self, settlements: Sequence[Settlement]) -> Settled:
        return Settled(
            [each.message_id for each in settlements if each.message_id in self.stale], 0
        )

    async def answered_late(self, settlements: Sequence[Settlement]) -> Applied:
        if self.outages:
            self.outages -= 1
            raise DatabaseUnreachable("away")
        self.late += [each.message_id for each in settlements]
        return Applied({("sent", "applied"): 1}, 1, 0, 0, self.freed)


class Told:
    def __init__(self) -> None:
        self.requeued = 0
        self.stale = 0
        self.late: list[Applied] = []
        self.lost: list[str] = []

    def ring(self) -> None:
        self.requeued += 1

    def count(self, stale: int) -> None:
        self.stale += stale


@asynccontextmanager
async def settling(store: Store) -> AsyncIterator[tuple[Settler, Told]]:
    told = Told()
    settler = Settler(
        store,
        requeued=told.ring,
        stale=told.count,
        late=told.late.append,
        database_lost=told.lost.append,
        clock=asyncio.get_running_loop().time,
    )
    async with asyncio.TaskGroup() as group:
        group.create_task(settler.run())
        yield settler, told
        settler.close()


async def test_of_stale_outcomes_those_that_meta_accepted_are_told_once_more() -> None:
    store = Store(1, 2)
    async with settling(store) as (settler, told):
        settler.settle(Settlement(1, 10, ACCEPTED))
        settler.settle(Settlement(2, 20, Decision(Outcome.RETRY)))
        settler.settle(Settlement(3, 30, ACCEPTED))

    assert (store.late, told.stale, len(told.late)) == ([1], 2, 1)


async def test_nothing_more_is_asked_while_nothing_is_stale() -> None:
    store = Store()
    async with settling(store) as (settler, told):
        settler.settle(Settlement(1, 10, ACCEPTED))

    assert (store.late, told.late, told.requeued) == ([], [], 0)


async def test_a_lane_that_a_late_answer_freed_is_looked_at() -> None:
    store = Store(1)
    store.freed = 1
    async with settling(store) as (settler, told):
        settler.settle(Settlement(1, 10, ACCEPTED))

    assert told.requeued == 1


async def test_a_late_answer_outlasts_an_outage() -> None:
    store = Store(1)
    store.outages = 1
    async with settling(store) as (settler, told):
        settler.settle(Settlement(1, 10, ACCEPTED))
        await eventually(lambda: store.late == [1])

    assert told.lost == ["away"]


async def test_the_last_word_tells_it_too() -> None:
    store = Store(1)
    store.outages = 1
    told = Told()
    settler = Settler(
        store,
        requeued=told.ring,
        stale=told.count,
        late=told.late.append,
        database_lost=told.lost.append,
        clock=asyncio.get_running_loop().time,
    )
    running = asyncio.ensure_future(settler.run())
    settler.settle(Settlement(1, 10, ACCEPTED))
    await eventually(lambda: told.lost)
    running.cancel()
    await asyncio.wait([running])

    assert store.late == [1]
