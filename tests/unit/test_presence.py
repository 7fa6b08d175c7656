"""Since when webhooks are received: told at the start, at a slow beat, and at once when one could not be taken."""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.support import eventually
from waemitter.errors import DatabaseUnreachable
from waemitter.inbox.presence import Presence
from waemitter.runtime.supervise import Stop

NEVER = 1e6


class Store:
    def __init__(self) -> None:
        self.told: list[float | None] = []
        self.tries = 0
        self.away = False

    async def note_receiving(self, *, away: datetime.timedelta | None) -> None:
        self.tries += 1
        if self.away:
            raise DatabaseUnreachable("away")
        self.told.append(None if away is None else away.total_seconds())


class Scene:
    def __init__(self, *, every: float) -> None:
        self.store = Store()
        self.now = 100.0
        self.lost: list[str] = []
        self.presence = Presence(
            self.store,
            database_lost=self.lost.append,
            clock=lambda: self.now,
            every=every,
            retry=0.001,
        )


@asynccontextmanager
async def running(*, every: float = NEVER) -> AsyncIterator[Scene]:
    scene, stop = Scene(every=every), Stop(grace=1)
    async with asyncio.TaskGroup() as group:
        group.create_task(scene.presence.run(stop))
        yield scene
        stop.request()


async def test_a_start_is_the_end_of_a_gap() -> None:
    scene = Scene(every=NEVER)

    await scene.presence.begin()

    assert scene.store.told == [0.0]


async def test_while_all_is_well_it_says_so_at_its_beat() -> None:
    async with running(every=0.001) as scene:
        await eventually(lambda: len(scene.store.told) >= 3)

    assert set(scene.store.told) == {None}


async def test_a_failure_is_told_at_once_with_its_age_and_once() -> None:
    async with running() as scene:
        scene.presence.failed()
        scene.now += 7
        scene.presence.failed()
        await eventually(lambda: scene.store.told == [7.0])
        scene.presence.failed()
        await eventually(lambda: scene.store.told == [7.0, 0.0])


async def test_without_a_database_it_is_tried_again_and_the_gap_begins_where_it_began() -> None:
    async with running() as scene:
        scene.store.away = True
        scene.presence.failed()
        await eventually(lambda: scene.store.tries >= 3)
        scene.now += 30
        scene.store.away = False
        await eventually(lambda: scene.store.told == [30.0])

    assert set(scene.lost) == {"away"}


async def test_a_beat_that_fails_is_a_gap_too() -> None:
    async with running(every=0.001) as scene:
        scene.store.away = True
        await eventually(lambda: scene.lost)
        scene.now += 3
        scene.store.away = False
        await eventually(lambda: 3.0 in scene.store.told)
        scene.store.told.clear()
        await eventually(lambda: scene.store.told)

    assert set(scene.store.told) == {None}


async def test_a_stop_ends_it_at_once() -> None:
    async with asyncio.timeout(5), running() as scene:
        await asyncio.sleep(0)

    assert scene.store.told == []
