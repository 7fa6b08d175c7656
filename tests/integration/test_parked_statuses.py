"""Statuses that came before anybody knew their message: kept for a while, applied when it is known, then dropped."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests import inbox_bench
from tests.inbox_bench import opened, webhook
from tests.outbox_rows import Outbox, outbox_at, status
from waemitter.inbox.parked import EVERY, ParkedStatuses

PATIENCE = "15 minutes"


@pytest.fixture
async def outbox(dsn: str) -> AsyncIterator[Outbox]:
    async with outbox_at(dsn) as outbox:
        yield outbox


async def try_again(outbox: Outbox, *, rows: int = 100) -> list[tuple[Any, ...]]:
    found = await outbox.pool.fetch(
        "select status, result, n, waiting from waemitter.apply_parked_statuses("
        "patience => $1::text::interval, max_rows => $2)",
        PATIENCE,
        rows,
    )
    return [tuple(row) for row in found]


async def test_a_status_that_came_before_the_wamid_was_stored_is_applied_once_it_is(
    outbox: Outbox,
) -> None:
    await outbox.put()
    attempt = await outbox.claim_one()
    await outbox.apply(status("failed", wamid="wamid.early", code=131026))  # without our echo
    await outbox.apply(status("delivered", wamid="wamid.early"))
    assert await try_again(outbox) == [(None, None, 0, True)]
    await outbox.settle(attempt, wamid="wamid.early")
    applied, *_, last = await try_again(outbox)
    assert applied[1:3] == ("applied", 1)
    assert last == (None, None, 0, False)
    assert (await outbox.row(attempt.id))["status"] == "delivered"


async def test_what_stays_unknown_is_dropped_and_told(outbox: Outbox) -> None:
    await outbox.apply(status("sent", wamid="wamid.of.another.app"))
    assert await try_again(outbox) == [(None, None, 0, True)]
    await outbox.pool.execute(
        "update waemitter.parked_statuses set parked_at = now() - interval '16 minutes'"
    )
    assert await try_again(outbox) == [("sent", "unknown", 1, True), (None, None, 0, False)]


async def test_the_same_status_is_parked_once(outbox: Outbox) -> None:
    for _ in range(3):
        await outbox.apply(*[status("sent", wamid="wamid.of.another.app")] * 2)
    assert await outbox.pool.fetchval("select count(*) from waemitter.parked_statuses") == 1


async def test_a_word_unknown_here_is_not_parked(outbox: Outbox) -> None:
    applied = await outbox.apply(status("teleported", wamid="wamid.of.another.app"))
    assert applied.counts == {("teleported", "unknown"): 1}
    assert await outbox.pool.fetchval("select count(*) from waemitter.parked_statuses") == 0


async def test_no_more_are_applied_at_once_than_asked(outbox: Outbox) -> None:
    for number in range(3):
        await outbox.apply(status("sent", wamid=f"wamid.{number}"))
        await outbox.put()
        await outbox.settle(await outbox.claim_one(), wamid=f"wamid.{number}")
    assert (await try_again(outbox, rows=2))[-1] == (None, None, 0, True)
    assert (await try_again(outbox, rows=2))[-1] == (None, None, 0, False)


async def test_the_daemon_looks_again_while_any_wait_and_tells_what_became_of_them(
    dsn: str,
) -> None:
    async with opened(dsn) as bench:
        freed: list[bool] = []
        again = ParkedStatuses(
            bench.inbox, events=bench.observed.events, lanes_freed=lambda: freed.append(True)
        )
        assert (await again.claim(1)).next_due is None
        echo = await bench.message()
        await bench.pool.execute("select waemitter.send_text('+14155550123', 'behind it')")
        await bench.pool.execute(  # what a claim does with the second of a lane
            "update waemitter.outbox_messages set available_at = 'infinity', due_at = now(), hold = 'lane'"
            " where id <> $1",
            echo.message_id,
        )
        await bench.journal(webhook(inbox_bench.status("delivered", None, id="wamid.early")))
        await bench.split()
        assert bench.parked == [True]
        assert (await again.claim(1)).next_due == EVERY
        await bench.pool.execute(
            "update waemitter.outbox_messages set whatsapp_message_id = 'wamid.early' where id = $1",
            echo.message_id,
        )
        assert (await again.claim(1)).next_due is None
        assert await bench.status_of(echo.message_id) == "delivered"
        assert freed == [True]
        for result in ("parked", "applied"):
            told = bench.observed.value("status_updates_total", status="delivered", result=result)
            assert told == 1
