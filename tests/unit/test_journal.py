"""The journal: a webhook's sender gets its answer after the commit, with the others that share it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from waemitter.errors import DatabaseUnreachable
from waemitter.inbox.journal import MOST_BYTES, Journal, JournalFull
from waemitter.inbox.store import Entry


class Store:
    """Commits when it is let; refuses what it is told to refuse."""

    def __init__(self) -> None:
        self.commits: list[list[bytes]] = []
        self.open = asyncio.Event()
        self.open.set()
        self.begun = asyncio.Event()
        self.outage: Exception | None = None
        self.poison = b"poison"

    async def append(self, entries: Sequence[Entry]) -> None:
        self.begun.set()
        await self.open.wait()
        if self.outage is not None:
            raise self.outage
        bodies = [entry.body for entry in entries]
        if self.poison in bodies:
            raise ValueError("the server refused it")
        self.commits.append(bodies)


@asynccontextmanager
async def journal_of(store: Store) -> AsyncIterator[tuple[Journal, list[int]]]:
    written: list[int] = []
    journal = Journal(store, written=lambda: written.append(len(store.commits)))
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


async def test_without_a_database_nobody_is_told_that_it_is_kept() -> None:
    store = Store()
    store.outage = DatabaseUnreachable("away")
    async with journal_of(store) as (journal, written):
        with pytest.raises(DatabaseUnreachable):
            await record(journal, b"{}")
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
    assert store.commits == [[b"0"], [b"1"]]


async def test_what_waits_is_bounded_in_bytes() -> None:
    store = Store()
    store.open.clear()
    async with journal_of(store) as (journal, _), asyncio.TaskGroup() as group:
        group.create_task(record(journal, bytes(MOST_BYTES - 10)))
        await store.begun.wait()
        with pytest.raises(JournalFull):
            await record(journal, bytes(11))
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
