"""The journal: a webhook's sender gets its answer after the commit, with the others that share it."""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from typing_extensions import override

from waemitter.errors import DatabaseUnreachable
from waemitter.inbox.journal.records import Entry
from waemitter.inbox.journal.spool import Spool, SpoolFull
from waemitter.inbox.journal.writer import MOST_BYTES, WORTH_A_SECOND, Journal, JournalFull


class Store:
    """Commits when it is let; refuses what it is told to refuse."""

    def __init__(self) -> None:
        self.commits: list[list[bytes]] = []
        self.open = asyncio.Event()
        self.open.set()
        self.begun = asyncio.Event()
        self.outage: Exception | None = None
        self.poison = b"poison"
        self.asked = 0
        self.headers: list[str] = []
        self.leases: list[datetime.timedelta | None] = []
        self.failures = asyncio.Event()

    async def newest(self) -> int:
        return sum(map(len, self.commits))

    async def append(
        self, entries: Sequence[Entry], *, lease: datetime.timedelta | None = None
    ) -> Sequence[int]:
        self.leases.append(lease)
        self.asked += 1
        self.headers += [entry.headers for entry in entries]
        self.begun.set()
        await self.open.wait()
        if self.outage is not None:
            raise self.outage
        bodies = [entry.body for entry in entries]
        if self.poison in bodies:
            raise ValueError("the server refused it")
        self.commits.append(bodies)
        last = await self.newest()
        return range(last - len(bodies) + 1, last + 1)


@asynccontextmanager
async def journal_of(store: Store) -> AsyncIterator[tuple[Journal, list[int]]]:
    written: list[int] = []
    journal = Journal(
        store, written=lambda: written.append(len(store.commits)), failed=store.failures.set
    )
    async with asyncio.TaskGroup() as group:
        group.create_task(journal.run())
        yield journal, written
        journal.close()


async def record(journal: Journal, body: bytes) -> None:
    await journal.record(source="whatsapp", body=body, headers={"x-hub-signature-256": "sha256=0"})


async def test_a_body_is_answered_for_after_its_commit_and_not_before() -> None:
    store = Store()
    store.open.clear()
    async with journal_of(store) as (journal, written), asyncio.TaskGroup() as group:
        task = group.create_task(record(journal, b"{}"))
        await store.begun.wait()
        assert not task.done()
        store.open.set()
        await task
        assert store.commits == [[b"{}"]]
        assert written == [1]


async def test_requests_that_come_during_a_commit_share_the_next_one() -> None:
    store = Store()
    store.open.clear()
    async with journal_of(store) as (journal, _), asyncio.TaskGroup() as group:
        group.create_task(record(journal, b"0"))
        await store.begun.wait()
        for n in range(1, 100):
            group.create_task(record(journal, str(n).encode()))
        await asyncio.sleep(0)  # so that each has begun
        store.open.set()
    assert [len(commit) for commit in store.commits] == [1, 99]


async def test_many_that_wait_do_not_wait_for_a_slow_commit() -> None:
    store = Store()
    store.open.clear()
    async with journal_of(store) as (journal, _), asyncio.TaskGroup() as group:
        group.create_task(record(journal, b"0"))
        await store.begun.wait()
        for n in range(1, WORTH_A_SECOND):
            group.create_task(record(journal, str(n).encode()))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert store.asked == 1  # a commit costs as much as so many bodies
        store.begun.clear()
        group.create_task(record(journal, b"one more"))
        await store.begun.wait()
        assert store.asked == 2
        store.open.set()
    assert sorted(len(commit) for commit in store.commits) == [1, WORTH_A_SECOND]


class Gated(Store):
    """Each commit has a gate of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.gates: asyncio.Queue[asyncio.Event] = asyncio.Queue()

    @override
    async def append(
        self, entries: Sequence[Entry], *, lease: datetime.timedelta | None = None
    ) -> Sequence[int]:
        gate = asyncio.Event()
        self.gates.put_nowait(gate)
        await gate.wait()
        return await super().append(entries, lease=lease)


async def test_few_do_not_get_a_commit_beside_another_whichever_of_the_two_began_first() -> None:
    store = Gated()
    async with journal_of(store) as (journal, _), asyncio.TaskGroup() as group:
        first = group.create_task(record(journal, b"0"))
        first_gate = await store.gates.get()
        for n in range(WORTH_A_SECOND):
            group.create_task(record(journal, str(n).encode()))
        second_gate = await store.gates.get()
        first_gate.set()
        await first
        group.create_task(record(journal, b"late"))
        for _ in range(5):
            await asyncio.sleep(0)
        assert store.gates.empty()
        second_gate.set()
        (await store.gates.get()).set()
    assert [len(commit) for commit in store.commits] == [1, WORTH_A_SECOND, 1]


async def test_one_who_cannot_be_told_keeps_nobody_from_being_told() -> None:
    def gone(_: BaseException | None) -> None:
        raise RuntimeError("the connection is closed")

    store = Store()
    faults: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, fault: faults.append(fault))
    heard: list[BaseException | None] = []
    async with journal_of(store) as (journal, _):
        journal.enter(source="whatsapp", body=b"0", headers={}, told=gone)
        journal.enter(source="whatsapp", body=b"1", headers={}, told=heard.append)
    assert heard == [None]
    assert [str(fault["exception"]) for fault in faults] == ["the connection is closed"]


async def test_without_a_database_nobody_is_told_that_it_is_kept() -> None:
    store = Store()
    store.outage = DatabaseUnreachable("away")
    async with journal_of(store) as (journal, written):
        with pytest.raises(DatabaseUnreachable):
            await record(journal, b"{}")
        assert store.failures.is_set()
        store.outage = None
        await record(journal, b"{}")
        assert written == [1]


async def test_one_body_that_cannot_be_stored_does_not_sink_its_neighbours() -> None:
    store = Store()
    store.open.clear()
    async with journal_of(store) as (journal, _):
        tasks = [asyncio.ensure_future(record(journal, b"first"))]
        await store.begun.wait()
        tasks += [
            asyncio.ensure_future(record(journal, body)) for body in (b"a", store.poison, b"b")
        ]
        await asyncio.sleep(0)  # so that each has begun
        store.open.set()
        results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(result) for result in results] == [
        type(None),
        type(None),
        ValueError,
        type(None),
    ]
    assert sorted(body for commit in store.commits for body in commit) == [b"a", b"b", b"first"]


async def test_a_sender_that_hangs_up_changes_nothing_for_the_others() -> None:
    store = Store()
    store.open.clear()
    async with journal_of(store) as (journal, _), asyncio.TaskGroup() as group:
        impatient = asyncio.ensure_future(record(journal, b"0"))
        await store.begun.wait()
        patient = group.create_task(record(journal, b"1"))
        await asyncio.sleep(0)  # so that it has begun
        impatient.cancel()
        store.open.set()
        await patient
    assert impatient.cancelled()
    assert not store.failures.is_set()
    assert store.commits == [[b"0"], [b"1"]]


async def test_what_waits_is_bounded_in_bytes() -> None:
    store = Store()
    store.open.clear()
    async with journal_of(store) as (journal, _), asyncio.TaskGroup() as group:
        group.create_task(record(journal, bytes(MOST_BYTES - 10)))
        await store.begun.wait()
        with pytest.raises(JournalFull):
            await record(journal, bytes(11))
        assert store.failures.is_set()
        group.create_task(record(journal, bytes(10)))
        store.open.set()
    assert [len(commit) for commit in store.commits] == [1, 1]


async def test_after_it_is_closed_nothing_is_taken_and_all_is_written() -> None:
    store = Store()
    store.open.clear()
    async with journal_of(store) as (journal, _):
        waiting = asyncio.ensure_future(record(journal, b"{}"))
        await store.begun.wait()
        journal.close()
        with pytest.raises(JournalFull):
            await record(journal, b"late")
        store.open.set()
    await waiting
    assert store.commits == [[b"{}"]]


@asynccontextmanager
async def spooling(store: Store, directory: Path) -> AsyncIterator[tuple[Journal, Spool]]:
    spool = Spool(directory, most_bytes=1 << 20)
    await spool.open()
    journal = Journal(store, written=lambda: None, spool=spool)
    async with asyncio.TaskGroup() as group:
        group.create_task(journal.run())
        yield journal, spool
        journal.close()


async def test_with_a_spool_an_outage_is_no_refusal_and_the_disk_has_it(tmp_path: Path) -> None:
    store = Store()
    async with spooling(store, tmp_path) as (journal, spool):
        await record(journal, b"1")
        store.outage = DatabaseUnreachable("away")
        await record(journal, b"2")
        store.outage = None
        await record(journal, b"3")  # behind what waits, so that the order stays
        assert store.commits == [[b"1"]]
        oldest = await spool.oldest()
        assert oldest is not None
        kept = [found.record for found in oldest[1].found]
        assert [(each.entry.body, each.after) for each in kept] == [(b"2", 1), (b"3", None)]
        await spool.remove(oldest[0])
        await record(journal, b"4")
    assert store.commits == [[b"1"], [b"4"]]


async def test_with_a_spool_commits_come_one_after_the_other_so_that_the_order_stays(
    tmp_path: Path,
) -> None:
    store = Store()
    store.open.clear()
    async with spooling(store, tmp_path) as (journal, _), asyncio.TaskGroup() as group:
        group.create_task(record(journal, b"0"))
        await store.begun.wait()
        for n in range(1, 2 * WORTH_A_SECOND):
            group.create_task(record(journal, str(n).encode()))
        for _ in range(5):
            await asyncio.sleep(0)
        assert store.asked == 1
        store.open.set()
    assert [len(commit) for commit in store.commits] == [1, 2 * WORTH_A_SECOND - 1]


async def test_when_the_disk_does_not_take_it_either_its_sender_is_told(tmp_path: Path) -> None:
    store = Store()
    store.outage = DatabaseUnreachable("away")
    async with spooling(store, tmp_path) as (journal, _):
        with pytest.raises(SpoolFull):
            await record(journal, bytes(1 << 20))
        await record(journal, b"a smaller one")


async def test_a_frozen_database_is_given_up_and_not_asked_again_at_once() -> None:
    store = Store()
    store.open.clear()
    journal = Journal(store, written=lambda: None, patience=0.01)
    async with asyncio.TaskGroup() as group:
        group.create_task(journal.run())
        for _ in range(2):
            with pytest.raises(DatabaseUnreachable, match="slow"):
                await record(journal, b"{}")
        assert store.asked == 1
        journal.close()


async def test_a_header_that_is_no_text_is_kept_as_far_as_it_is_one() -> None:
    store = Store()
    async with journal_of(store) as (journal, _):
        await journal.record(source="whatsapp", body=b"{}", headers={"user-agent": "caf\udce9"})
    assert store.headers == ['{"user-agent":"caf?"}']
