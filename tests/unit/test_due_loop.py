"""When the loop claims: bells, due times, sweeps, outages."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import pytest

from tests.due_tables import IN_VAIN, NOTHING, Table, draining, waits_of
from tests.support import eventually
from waemitter.errors import DatabaseUnreachable
from waemitter.runtime import vitals
from waemitter.runtime.due_loop import Claim, Fixed


async def test_rows_are_worked_on_and_then_it_waits_for_the_bell():
    table = Table(Claim([1, 2], next_due=None))
    async with draining(table) as running:
        await eventually(lambda: table.done == [1, 2])
        assert len(table.asked) == 1
        table.script.append(Claim([3]))
        running.bell.ring()
        await eventually(lambda: table.done == [1, 2, 3])
    assert table.released == []


async def test_a_ring_during_a_claim_is_not_lost():
    table = Table(NOTHING, Claim([1]))
    table.claiming.clear()
    async with draining(table) as running:
        await eventually(lambda: table.asked)
        running.bell.ring()
        table.claiming.set()
        await eventually(lambda: table.done == [1])


async def test_one_claim_answers_all_rings_before_it():
    table = Table()
    async with draining(table) as running:
        running.bell.ring()
        await eventually(lambda: table.asked)
        for _ in range(10):
            await asyncio.sleep(0)
    assert len(table.asked) == 1


async def test_more_is_claimed_at_once_while_there_is_more():
    table = Table(rows=1000)
    async with draining(table, batch_size=100, capacity=Fixed(1000)):
        await eventually(lambda: len(table.done) == 1000)
    assert len(table.asked) == 10


@pytest.mark.parametrize("due_in", [0.1, 0.3])
async def test_it_wakes_for_the_next_row_that_becomes_due(due_in):
    table = Table(Claim((), next_due=due_in), Claim([1]))
    async with draining(table):
        await eventually(lambda: table.done == [1])
    assert due_in <= table.pauses()[0] < due_in + 0.2


async def test_it_sweeps_although_nothing_rings_or_is_due():
    factors: Iterator[float] = iter((1.0, 2.0, 100.0))
    table = Table(NOTHING, Claim((), next_due=3600.0), Claim([1]))
    async with draining(table, sweep_interval=0.1, jitter=lambda: next(factors)):
        await eventually(lambda: table.done == [1])
    assert 0.1 <= table.pauses()[0] < 0.2
    assert 0.2 <= table.pauses()[1] < 0.4


async def test_jitter_never_delays_a_row_that_is_due():
    table = Table(Claim((), next_due=0.1), Claim([1]))
    async with draining(table, jitter=lambda: 1000.0):
        await eventually(lambda: table.done == [1])
    assert table.pauses()[0] < 0.3


async def test_claims_in_vain_come_later_and_later_up_to_a_second(monkeypatch):
    pauses = waits_of(monkeypatch)
    table = Table(*[IN_VAIN] * 1500)  # somebody holds a row's lock for half an hour
    async with draining(table):
        await eventually(lambda: not table.script)
    assert pauses[:9] == [0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.0]
    assert {*pauses[8:1500]} == {1.0}


async def test_a_row_ends_what_was_in_vain(monkeypatch):
    pauses = waits_of(monkeypatch)
    table = Table(IN_VAIN, IN_VAIN, Claim([1], next_due=0.0), IN_VAIN, IN_VAIN)
    async with draining(table):
        await eventually(lambda: not table.script and len(pauses) == 5)
    assert pauses == [0.005, 0.01, 0.005, 0.01, 60.0]


async def test_before_not_before_the_bell_is_in_vain():
    table = Table(Claim((), next_due=0.0, not_before=0.2), Claim([1]))
    async with draining(table) as running:
        await eventually(lambda: table.asked)
        running.bell.ring()
        await eventually(lambda: table.done == [1])
    assert table.pauses()[0] >= 0.2


async def test_rows_with_a_not_before_are_worked_on_meanwhile():
    table = Table(Claim([1, 2], next_due=0.0, not_before=0.2), Claim([3]))
    async with draining(table):
        await eventually(lambda: table.done == [1, 2], within=0.15)
        await eventually(lambda: table.done == [1, 2, 3])
    assert 0.2 <= table.pauses()[0] < 0.4


async def test_a_not_before_does_not_delay_what_is_due_after_it():
    table = Table(Claim((), next_due=0.25, not_before=0.2), Claim([1]))
    async with draining(table):
        await eventually(lambda: table.done == [1])
    assert 0.25 <= table.pauses()[0] < 0.4


async def test_through_a_long_not_before_the_bell_is_heard():
    table = Table(Claim((), next_due=0.0, not_before=30.0), Claim([1]))
    async with draining(table) as running:
        await eventually(lambda: table.asked)
        running.bell.ring()  # a limit was raised, or a pause is over
        await eventually(lambda: table.done == [1])


async def test_a_long_not_before_ends_by_itself():
    table = Table(Claim((), next_due=0.0, not_before=0.3), Claim([1]))
    async with draining(table):
        await eventually(lambda: table.done == [1])
    assert 0.3 <= table.pauses()[0] < 0.5


async def test_an_outage_is_told_and_outlasted_with_ever_longer_pauses():
    table = Table(*[DatabaseUnreachable("away")] * 3, Claim([1]), DatabaseUnreachable("again"))
    async with draining(table) as running:
        await eventually(lambda: table.done == [1])
        assert running.losses == ["away"] * 3
        running.bell.ring()
        await eventually(lambda: len(table.asked) == 6)
    assert running.losses[3:] == ["again"]
    for pause, due in zip(table.pauses(), (0.05, 0.1, 0.2), strict=False):
        assert due <= pause < due + 0.1
    assert 0.05 <= table.pauses()[4] < 0.15  # a success begins it anew


async def test_a_loop_says_when_it_will_be_heard_of_and_nothing_after_its_end():
    table = Table()
    async with draining(table, sweep_interval=5000.0) as running:
        promises = running.stop.vitals._due
        await eventually(
            lambda: [due - time.monotonic() > 4000 for _, due in promises.values()] == [True]
        )
        assert [name for name, _ in promises.values()] == ["table"]
    assert promises == {}


async def test_a_claim_that_never_returns_breaks_its_word(monkeypatch):
    monkeypatch.setattr(vitals, "MARGIN", -10.0)
    table = Table()
    table.claiming.clear()
    async with draining(table) as running:
        await eventually(lambda: running.stop.vitals.overdue() == ["table"])
        table.claiming.set()
        await eventually(lambda: running.stop.vitals.overdue() == [])
