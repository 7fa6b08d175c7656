"""The one loop over a table of due rows that is only a script: what it takes, when it asks again, what it gives back."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from tests.support import eventually
from waemitter.errors import DatabaseUnreachable
from waemitter.runtime import due_loop, vitals
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
