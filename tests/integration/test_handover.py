"""A webhook that this process has journalled is worked off without being asked for; what dies with it is claimed by another."""

from __future__ import annotations

import asyncio
import datetime
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.inbox_bench import Bench, opened, said, told
from waemitter.inbox.journal.handover import LocalHandover
from waemitter.inbox.journal.writer import Journal
from waemitter.inbox.splitter import LEASE

DUE = "select available_at <= clock_timestamp() as due, attempts, processed_at from waemitter.webhook_logs order by id"


@pytest.fixture
async def bench(dsn: str) -> AsyncIterator[Bench]:
    async with opened(dsn) as bench:
        bench.splitter._handover = LocalHandover(lease=LEASE, clock=time.monotonic)
        yield bench


@asynccontextmanager
async def journal_of(bench: Bench) -> AsyncIterator[Journal]:
    journal = Journal(bench.journalled, written=lambda: None, handover=bench.splitter._handover)
    async with asyncio.TaskGroup() as group:
        group.create_task(journal.run())
        yield journal
        journal.close()


async def hear(bench: Bench, *wamids: str) -> None:
    async with journal_of(bench) as journal:
        for wamid in wamids:
            await journal.record(source="whatsapp", body=told(said(wamid)), headers={})


async def rows(bench: Bench) -> list[tuple[bool, int, bool]]:
    found = await bench.pool.fetch(DUE)
    return [(row["due"], row["attempts"], row["processed_at"] is not None) for row in found]


async def test_it_is_claimed_already_and_worked_off_at_once(bench: Bench) -> None:
    await hear(bench, "wamid.1", "wamid.2")
    assert await rows(bench) == [(False, 1, False)] * 2
    bench.splitter._asked = bench.splitter._clock()  # the table was asked a moment ago
    claim = await bench.splitter.claim(1)
    assert [len(batch) for batch in claim.rows] == [2]
    await bench.splitter.work(claim.rows[0])
    assert [done for _, _, done in await rows(bench)] == [True, True]
    assert await bench.count("inbound_messages") == 2


async def test_the_table_is_asked_all_the_same_now_and_then(bench: Bench) -> None:
    await bench.journal(told(said("wamid.table")))
    await hear(bench, "wamid.here")
    await bench.split()
    assert await bench.unprocessed() == 0


async def test_what_died_with_its_process_is_worked_off_by_another(bench: Bench) -> None:
    await hear(bench, "wamid.1")
    bench.splitter._handover = None  # its memory is gone
    await bench.split()
    assert await bench.unprocessed() == 1
    await bench.pool.execute(
        "update waemitter.webhook_logs set available_at = now()"
    )  # the lease ends
    await bench.split()
    assert await bench.unprocessed() == 0
    assert await bench.count("inbound_messages") == 1


async def test_on_a_stop_what_was_not_begun_is_due_for_others(bench: Bench) -> None:
    await hear(bench, "wamid.1")
    await bench.splitter.close()
    assert await rows(bench) == [(True, 1, False)]
    await hear(bench, "wamid.2")
    assert [due for due, _, _ in await rows(bench)] == [True, True]


async def test_what_both_have_is_handled_once(bench: Bench) -> None:
    """The lease ran out while it waited: another has claimed it, and this one begins all the same."""
    await hear(bench, "wamid.1")
    await bench.pool.execute("update waemitter.webhook_logs set available_at = now()")
    assert bench.splitter._handover is not None
    mine = bench.splitter._handover.next(1)
    theirs = await bench.inbox.claim(1, lease=datetime.timedelta(seconds=9))
    await asyncio.gather(bench.splitter.work(mine), bench.splitter.work(theirs))
    assert await bench.count("inbound_messages") == 1
    assert await bench.unprocessed() == 0
