"""Calls that share a statement, and what one of them may do to the others."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from waemitter.errors import DatabaseUnreachable
from waemitter.runtime.together import Together, columns


class Statements:
    """Doubles each number; a statement with a negative one fails as a whole."""

    def __init__(self) -> None:
        self.asked: list[list[int]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.away = False
        self.cancelled = False
        self.forgotten = False

    async def ask(self, numbers: Sequence[int]) -> Sequence[int]:
        self.asked.append(list(numbers))
        await self.gate.wait()
        if self.away:
            raise DatabaseUnreachable("away")
        if self.cancelled:
            raise asyncio.CancelledError
        if min(numbers) < 0:
            raise ValueError(min(numbers))
        return [number * 2 for number in numbers[int(self.forgotten) :]]


async def test_what_comes_at_once_shares_a_statement_and_each_has_its_own_answer() -> None:
    made = Statements()
    together = Together(made.ask)
    assert await asyncio.gather(*(together(n) for n in range(5))) == [0, 2, 4, 6, 8]
    assert made.asked == [[0, 1, 2, 3, 4]]
    assert await together(7) == 14
    assert made.asked[1:] == [[7]]


async def test_what_comes_while_one_is_on_its_way_goes_with_the_next_as_many_as_may() -> None:
    made = Statements()
    together = Together(made.ask, largest=2)
    made.gate.clear()
    first = asyncio.create_task(together(1))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert made.asked == [[1]]
    later = [asyncio.create_task(together(n)) for n in (2, 3, 4)]
    await asyncio.sleep(0)
    made.gate.set()
    assert [await first, *[await each for each in later]] == [2, 4, 6, 8]
    assert made.asked == [[1], [2, 3], [4]]


async def test_one_that_cannot_be_done_harms_nobody_else() -> None:
    made = Statements()
    together = Together(made.ask)
    answers = await asyncio.gather(*(together(n) for n in (1, -2, 3)), return_exceptions=True)
    assert answers[0] == 2
    assert answers[2] == 6
    assert isinstance(answers[1], ValueError)
    assert made.asked == [[1, -2, 3], [1], [-2], [3]]


async def test_without_the_database_all_are_told_at_once_and_the_next_ones_try_again() -> None:
    made = Statements()
    together = Together(made.ask)
    made.away = True
    answers = await asyncio.gather(*(together(n) for n in (1, 2)), return_exceptions=True)
    assert [type(each) for each in answers] == [DatabaseUnreachable, DatabaseUnreachable]
    assert made.asked == [[1, 2]]
    made.away = False
    assert await together(3) == 6


async def test_who_is_cancelled_before_its_turn_has_asked_nothing() -> None:
    made = Statements()
    together = Together(made.ask)
    made.gate.clear()
    first = asyncio.create_task(together(1))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    second, third = asyncio.create_task(together(2)), asyncio.create_task(together(3))
    await asyncio.sleep(0)
    first.cancel()
    second.cancel()
    made.gate.set()
    assert await third == 6
    with pytest.raises(asyncio.CancelledError):
        await first
    assert made.asked == [[1], [3]]


async def test_nobody_waits_for_a_statement_that_was_cancelled_nor_behind_it() -> None:
    made = Statements()
    together = Together(made.ask, largest=1)
    made.cancelled = True
    calls = [asyncio.create_task(together(n)) for n in (1, 2)]
    for _ in range(5):
        await asyncio.sleep(0)
    assert [call.done() and call.cancelled() for call in calls] == [True, True]
    made.cancelled = False
    assert await together(3) == 6
    assert made.asked == [[1], [3]]


async def test_who_gets_no_answer_is_told() -> None:
    made = Statements()
    together = Together(made.ask)
    made.forgotten = True
    answers = await asyncio.gather(*(together(n) for n in (1, 2)), return_exceptions=True)
    assert [type(each) for each in answers] == [ValueError, ValueError]
    made.forgotten = False
    assert await together(3) == 6


def test_rows_become_arrays() -> None:
    assert columns([(1, "a"), (2, "b")]) == [[1, 2], ["a", "b"]]


async def test_when_many_wait_a_second_statement_goes_beside_a_slow_one_and_no_third() -> None:
    made = Statements()
    together = Together(made.ask, largest=3, beside=2)
    made.gate.clear()
    asked = [asyncio.create_task(together(1))]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    asked += [asyncio.create_task(together(n)) for n in range(2, 8)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert made.asked == [[1], [2, 3, 4]]
    made.gate.set()
    assert [await each for each in asked] == [2, 4, 6, 8, 10, 12, 14]
    assert made.asked[2:] == [[5, 6, 7]]


async def test_who_is_answered_may_ask_again_at_once() -> None:
    made = Statements()
    together = Together(made.ask)

    async def twice() -> int:
        return await together(await together(1))

    async with asyncio.timeout(5):
        assert await twice() == 4
