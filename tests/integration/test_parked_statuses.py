"""Statuses that came before anybody knew their message: kept for a while, applied when it is known, then dropped."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.outbox_rows import Outbox, outbox_at, status

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
