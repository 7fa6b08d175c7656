from __future__ import annotations

import asyncio

import pytest

from waemitter.web.dashboard.recent import EACH, FORGOTTEN_AFTER, LASTS, Recent


class Shelf:
    """A page that counts how often it was read."""

    def __init__(self) -> None:
        self.now = 100.0
        self.changed = 0.0
        self.reads: list[str] = []
        self.recent = Recent[int](changed_at=lambda: self.changed, clock=lambda: self.now)

    async def get(self, key: str = "a") -> int:
        async def read() -> int:
            self.reads.append(key)
            await asyncio.sleep(0)
            return len(self.reads)

        return await self.recent.get(key, read)


async def test_twenty_who_ask_at_once_get_one_reading() -> None:
    shelf = Shelf()
    assert await asyncio.gather(*(shelf.get() for _ in range(20))) == [1] * 20


async def test_a_reading_is_good_for_a_moment_and_not_beyond_a_change() -> None:
    shelf = Shelf()
    await shelf.get()
    shelf.now += LASTS / 2
    assert await shelf.get() == 1
    shelf.changed = shelf.now
    shelf.now += LASTS / 10
    assert await shelf.get() == 2
    shelf.now += LASTS
    assert await shelf.get() == 3


async def test_many_different_pages_are_read_in_turn_whatever_changes() -> None:
    shelf = Shelf()
    keys = [f"page {n}" for n in range(20)]
    for _ in range(100):  # ten seconds
        shelf.changed = shelf.now
        for key in keys:
            await shelf.get(key)
        shelf.now += 0.1
    assert len(shelf.reads) <= 10 / (EACH * 19) * 20 + 20


async def test_what_was_forgotten_is_read_anew_and_what_nobody_asks_for_goes() -> None:
    shelf = Shelf()
    await shelf.get()
    shelf.recent.forget()
    assert await shelf.get() == 2
    shelf.now += FORGOTTEN_AFTER + 1
    await shelf.get("b")
    assert list(shelf.recent._entries) == ["b"]


async def test_a_reading_that_fails_is_tried_by_the_next_one() -> None:
    shelf = Shelf()

    async def fail() -> int:
        raise TimeoutError

    with pytest.raises(TimeoutError):
        await shelf.recent.get("a", fail)
    assert await shelf.get() == 1
