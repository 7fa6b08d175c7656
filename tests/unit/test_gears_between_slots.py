"""A patrol goes on between the slots of a number's limit, however far apart its claims are."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from typing_extensions import override

from tests.support import eventually
from waemitter.runtime.doorbell import Doorbell
from waemitter.runtime.gears import LOAD, QUIET, Gears
from waemitter.runtime.supervise import Stop


class Silent(Doorbell):
    """It answers everything with yes, and notes whenever it is rung."""

    def __init__(self) -> None:
        self.rung: list[str] = []

    @override
    def watch(self, watcher: Callable[[str, bool], None]) -> None:
        pass

    @override
    def ring(self, channel: str) -> None:
        self.rung.append(channel)

    @override
    async def call(self, statement: str, *_arguments: object) -> object:
        return "older_writers" not in statement and "patrolled" not in statement


class Diary:
    def __init__(self) -> None:
        self.gear = "bell"

    def gear_changed(self, *, gear: str) -> None:
        self.gear = gear


async def test_that_the_next_slots_are_far_is_no_sign_of_quiet() -> None:
    doorbell, diary, now, stop = Silent(), Diary(), [0.0], Stop(grace=1)
    gears = Gears(doorbell, channel="outbox", observer=diary, clock=lambda: now[0])
    running = asyncio.create_task(gears.run(stop))
    gears.claimed(int(LOAD) + 1, saturated=False, again_in=0.2)
    await eventually(lambda: diary.gear == "patrol")

    now[0] = 0.2 + QUIET - 0.01
    looks = len(doorbell.rung) + 5
    await eventually(lambda: len(doorbell.rung) >= looks)
    assert diary.gear == "patrol"

    now[0] = 0.2 + QUIET + 0.01
    await eventually(lambda: diary.gear == "bell")
    stop.request()
    await running
