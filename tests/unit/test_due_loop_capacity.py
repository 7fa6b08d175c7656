"""What the loop takes on, and how it ends."""

from __future__ import annotations

import asyncio

import pytest

from tests.due_tables import IN_VAIN, NOTHING, Elastic, Table, draining
from tests.support import eventually
from waemitter.errors import DatabaseUnreachable
from waemitter.runtime import due_loop
from waemitter.runtime.due_loop import Claim, Fixed


async def test_no_more_is_claimed_than_there_is_capacity_for():
    table = Table(rows=300)
    table.gate.clear()
    async with draining(table, capacity=Fixed(7), batch_size=5):
        await eventually(lambda: len(table.started) == 7)
        assert table.limits == [5, 2]
        table.gate.set()
        await eventually(lambda: len(table.done) == 300)
    assert table.most_at_once == 7
    assert sorted(table.done) == [*range(300)]
    assert max(table.limits) <= 5


async def test_the_reserve_is_leased_and_waits_for_a_free_worker():
    table = Table(rows=20)
    table.gate.clear()
    async with draining(table, capacity=Elastic(3, ahead=4)):
        await eventually(lambda: len(table.started) == 3)
        assert table.limits == [7]
        table.gate.set()
        await eventually(lambda: len(table.done) == 20)
    assert table.most_at_once == 3


@pytest.mark.parametrize(("before", "after"), [(8, 2), (2, 8)])
async def test_a_capacity_that_changes_is_kept_to(before, after):
    table, capacity = Table(rows=200), Elastic(before)
    first, second = asyncio.Event(), asyncio.Event()
    table.gate = first
    async with draining(table, capacity=capacity):
        await eventually(lambda: table.at_once == before)
        capacity.size, table.gate = after, second
        first.set()
        await eventually(lambda: len(table.done) == before and table.at_once == after)
        table.most_at_once = 0
        second.set()
        await eventually(lambda: len(table.done) == 200)
    assert table.most_at_once == after


@pytest.mark.parametrize("stuck", [1, 7, 9])
async def test_slow_rows_hold_up_no_other_while_there_is_room(stuck):
    table = Table(Claim([*range(stuck)]))
    table.gate.clear()
    async with draining(table, capacity=Fixed(10)) as running:
        await eventually(lambda: len(table.started) == stuck)
        table.script.append(Claim([100]))
        running.bell.ring()
        await eventually(lambda: 100 in table.started)
        table.gate.set()


async def test_under_load_rows_are_claimed_by_the_handful():
    table = Table(rows=400)
    table.permits = asyncio.Semaphore(0)
    async with draining(table, capacity=Fixed(20)):
        while len(table.done) < 400:
            table.permits.release()
            await asyncio.sleep(0)
    assert len(table.asked) <= 60


@pytest.mark.parametrize("capacity", [7, 10])
async def test_a_stop_ends_the_wait_for_room_and_that_for_a_handful(monkeypatch, capacity):
    monkeypatch.setattr(due_loop, "GATHER", 60.0)
    table = Table(rows=100)
    table.gate.clear()
    async with draining(table, capacity=Fixed(capacity), batch_size=7) as running:
        await eventually(lambda: len(table.started) == 7)
        running.stop.request()
        table.gate.set()
    assert table.done == [*range(7)]


async def test_a_stop_gives_back_what_was_not_started_and_ends_what_was():
    table = Table(rows=100)
    table.gate.clear()
    async with draining(table, capacity=Elastic(2, ahead=3)) as running:
        await eventually(lambda: len(table.started) == 2)
        running.stop.request()
        table.gate.set()  # a worker looks for its next row while the others are given back
        await eventually(lambda: table.released)
    assert table.started == table.done == [0, 1]
    assert table.released == [2, 3, 4]
    assert len(table.asked) == 1


async def test_what_a_claim_brings_after_the_stop_is_given_back():
    table = Table(Claim([1, 2], next_due=0.0))
    table.claiming.clear()
    async with draining(table) as running:
        await eventually(lambda: table.asked)
        running.stop.request()
        table.claiming.set()
    assert table.started == []
    assert table.released == [1, 2]


@pytest.mark.parametrize(
    "last",
    [
        NOTHING,
        IN_VAIN,
        Claim((), next_due=30.0),
        Claim((), next_due=0.0, not_before=0.2),
        Claim((), next_due=0.0, not_before=30.0),
        DatabaseUnreachable("away"),
    ],
)
async def test_a_stop_ends_every_pause(last):
    table = Table(*[last] * 20)
    async with draining(table) as running:
        await eventually(lambda: table.asked)
        running.stop.request()
        asked = len(table.asked)
    assert len(table.asked) == asked


async def test_a_crash_in_work_ends_the_loop_and_is_told():
    table = Table(Claim([7]))
    table.fault = LookupError("a bug")
    with pytest.raises(ExceptionGroup) as crash:
        async with draining(table):
            await asyncio.Event().wait()
    assert crash.group_contains(LookupError, match="a bug")


async def test_a_crash_in_a_claim_ends_the_loop_and_is_told():
    with pytest.raises(ExceptionGroup) as crash:
        async with draining(Table(LookupError("no such column"))):
            await asyncio.Event().wait()
    assert crash.group_contains(LookupError, match="no such column")
