"""Lanes: one message at a time, in order, and nobody is left behind, step by step."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.outbox_rows import Outbox, ago, ahead, outbox_at, status
from waemitter.outbox.message import Attempt
from waemitter.outbox.retry import Outcome


@pytest.fixture
async def outbox(dsn: str) -> AsyncIterator[Outbox]:
    async with outbox_at(dsn) as outbox:
        yield outbox


async def in_lane(outbox: Outbox, count: int = 1, **columns: object) -> list[int]:
    return await outbox.put_many(count, **({"ordering_key": "Ada"} | columns))


async def held(outbox: Outbox, message: int) -> str | None:
    hold: str | None = (await outbox.row(message))["hold"]
    return hold


async def test_a_lane_leaves_one_by_one_in_the_order_of_its_rows(outbox: Outbox) -> None:
    messages = await in_lane(outbox, 4)

    for message in messages:
        attempt = await outbox.claim_one()
        assert attempt.id == message
        assert await outbox.claim_ids() == []
        await outbox.settle(attempt)


async def test_a_row_that_comes_while_another_is_under_way_waits_for_it(outbox: Outbox) -> None:
    await in_lane(outbox)
    attempt = await outbox.claim_one()
    (second,) = await in_lane(outbox, priority=9)

    assert await outbox.claim_ids() == []
    await outbox.settle(attempt)
    assert await outbox.claim_ids() == [second]


async def test_a_retry_waits_for_the_one_that_overtook_it(outbox: Outbox) -> None:
    (first,) = await in_lane(outbox)
    overtaken = await outbox.claim_one()
    await outbox.lose(overtaken)
    await outbox.change(first, available_at=ago(1))
    assert (await outbox.claim(policy="hold")).held == 1
    await in_lane(outbox)
    attempt = await outbox.claim_one()
    await outbox.settle(overtaken, Outcome.RETRY, delay=0.0)

    assert await outbox.claim_ids() == []
    await outbox.settle(attempt)
    assert await outbox.claim_ids() == [first]


async def test_the_recipient_is_the_lane_unless_an_ordering_key_says_otherwise(
    outbox: Outbox,
) -> None:
    first, second = await outbox.put_many(2, ordering_key=None, recipient="+14155550101")
    other = await outbox.put(ordering_key=None, recipient="+14155550102")

    assert await outbox.claim_ids() == [first, other]
    assert await held(outbox, second) == "lane"


async def test_rows_without_a_lane_leave_together(outbox: Outbox) -> None:
    messages = await in_lane(outbox, 3, ordering_key="")

    assert await outbox.claim_ids() == messages


async def test_a_message_to_be_tried_again_goes_before_those_behind_it(outbox: Outbox) -> None:
    first, second = await in_lane(outbox, 2)
    await outbox.settle(await outbox.claim_one(), Outcome.RETRY, delay=3600.0)

    waiting = await outbox.claim()
    await outbox.change(first, available_at=ago(1))

    assert waiting.attempts == []
    assert waiting.next_due == pytest.approx(waiting.clock + 3600, abs=5)
    assert await outbox.claim_ids() == [first]
    assert await held(outbox, second) == "lane"


async def test_a_scheduled_row_that_never_started_blocks_nobody(outbox: Outbox) -> None:
    await in_lane(outbox, available_at=ahead(3600))
    (second,) = await in_lane(outbox)

    assert await outbox.claim_ids() == [second]


async def test_priority_orders_lanes_and_not_the_rows_of_one_lane(outbox: Outbox) -> None:
    (first,) = await in_lane(outbox, priority=0)
    (second,) = await in_lane(outbox, priority=9)
    (elsewhere,) = await in_lane(outbox, priority=5, ordering_key="Grace")

    assert await outbox.claim_ids(1) == [elsewhere]
    assert await outbox.claim_ids(1) == [first]
    assert await held(outbox, second) == "lane"


async def test_a_parked_row_is_woken_with_its_own_due_time(outbox: Outbox) -> None:
    due = ago(120)
    await in_lane(outbox, available_at=ago(180))
    (second,) = await in_lane(outbox, available_at=due)
    attempt = await outbox.claim_one()

    settled = await outbox.settle(attempt)

    row = await outbox.row(second)
    assert settled.woken == 1
    assert (row["available_at"], row["hold"]) == (due, None)
    assert (await outbox.claim_one()).due == pytest.approx(due.timestamp(), abs=0.001)


@pytest.mark.parametrize("outcome", [Outcome.SENT, Outcome.FAILED, Outcome.DRY_RUN])
async def test_whatever_ends_a_message_lets_its_lane_go_on(
    outbox: Outbox, outcome: Outcome
) -> None:
    _, second = await in_lane(outbox, 2)

    assert (await outbox.settle(await outbox.claim_one(), outcome)).woken == 1
    assert await outbox.claim_ids() == [second]


async def test_a_retry_and_an_unknown_outcome_keep_their_lane(outbox: Outbox) -> None:
    await in_lane(outbox, 2)
    await in_lane(outbox, 2, ordering_key="Grace")
    one, other = (await outbox.claim()).attempts

    assert (await outbox.settle(one, Outcome.RETRY, delay=60.0)).woken == 0
    assert (await outbox.settle(other, Outcome.UNCONFIRMED, delay=60.0)).woken == 0
    assert await outbox.claim_ids() == []


async def test_a_status_before_the_settle_lets_the_lane_go_on(outbox: Outbox) -> None:
    _, second = await in_lane(outbox, 2)
    attempt = await outbox.claim_one()

    applied = await outbox.apply(status("delivered", attempt, wamid="wamid.1"))

    assert applied.freed == 1
    assert await outbox.claim_ids() == [second]


async def test_a_cancelled_row_lets_its_lane_go_on(outbox: Outbox) -> None:
    first, second, third = await in_lane(outbox, 3)
    attempt = await outbox.claim_one()
    assert await outbox.claim_ids() == []
    await outbox.settle(attempt, Outcome.RETRY, delay=60.0)

    assert await outbox.store.cancel([first, second]) == [first, second]

    assert await outbox.claim_ids() == [third]


async def test_an_expired_row_lets_its_lane_go_on_at_once(outbox: Outbox) -> None:
    await in_lane(outbox, expires_at=ago(1), available_at=ago(60))
    (second,) = await in_lane(outbox)

    claimed = await outbox.claim()

    assert claimed.attempts == []
    assert claimed.next_due is not None
    assert claimed.next_due <= claimed.clock
    assert await outbox.claim_ids() == [second]


async def test_a_released_row_stays_ahead_of_the_one_behind_it(outbox: Outbox) -> None:
    first, second = await in_lane(outbox, 2)
    await outbox.settle(await outbox.claim_one(), Outcome.RELEASE)

    assert await outbox.claim_ids() == [first]
    assert await outbox.claim_ids() == []
    assert await held(outbox, second) == "lane"


async def test_a_settle_passes_over_a_parked_row_that_somebody_is_cancelling(
    outbox: Outbox,
) -> None:
    _, second, third = await in_lane(outbox, 3)
    attempt = await outbox.claim_one()
    async with outbox.pool.acquire() as other, other.transaction():
        assert await other.fetchval("select waemitter.cancel_message($1)", second)

        async with asyncio.timeout(1):
            assert (await outbox.settle(attempt)).woken == 1
            assert await outbox.claim_ids() == []  # the cancelling one may yet change its mind

    assert await outbox.claim_ids() == [third]


async def test_when_the_cancelling_is_taken_back_the_order_stands(outbox: Outbox) -> None:
    _, second, third = await in_lane(outbox, 3)
    attempt = await outbox.claim_one()
    async with outbox.pool.acquire() as other:
        transaction = other.transaction()
        await transaction.start()
        await other.fetchval("select waemitter.cancel_message($1)", second)
        await outbox.settle(attempt)
        await transaction.rollback()

    woken = await outbox.claim()
    attempt = await outbox.claim_one()
    await outbox.settle(attempt)

    assert woken.next_due is not None
    assert woken.next_due <= woken.clock
    assert attempt.id == second
    assert await outbox.claim_ids() == [third]


async def test_the_sweep_wakes_a_lane_whose_wake_was_missed_and_no_busy_one(outbox: Outbox) -> None:
    first, second = await in_lane(outbox, 2)
    await outbox.claim_one()
    await outbox.store.sweep()
    assert await held(outbox, second) == "lane"

    await outbox.change(first, status="failed", available_at=None)
    assert await outbox.claim_ids() == []
    await outbox.store.sweep()
    assert await outbox.claim_ids() == [second]


async def test_the_sweep_fails_the_rows_of_a_channel_that_is_not_there(outbox: Outbox) -> None:
    stray, waiting = await outbox.put(channel="nowhere"), await outbox.put()

    assert await outbox.store.sweep() == 1

    row = await outbox.row(stray)
    assert (row["status"], row["available_at"]) == ("failed", None)
    assert row["error_message"].startswith("channel: there is no channel 'nowhere'")
    assert (await outbox.row(waiting))["status"] == "queued"


async def test_a_hundred_lanes_of_thirty_are_parked_and_drained_in_order(outbox: Outbox) -> None:
    await outbox.pool.execute(
        """
        insert into waemitter.outbox_messages (recipient, message_type, payload, ordering_key)
        select '+14155550123', 'text', '{}', 'lane ' || lane
        from generate_series(1, 30) as turn, generate_series(1, 100) as lane
        """
    )

    last: dict[int, int] = {}
    for _ in range(30):
        attempts: list[Attempt] = []
        while len(attempts) < 100:
            attempts += (await outbox.claim(500)).attempts
        assert len(attempts) == 100
        for attempt in attempts:
            lane = (attempt.id - 1) % 100
            assert last.get(lane, 0) < attempt.id
            last[lane] = attempt.id
        await outbox.settle_all(attempts)

    left = "select count(*) from waemitter.outbox_messages where available_at is not null"
    assert await outbox.pool.fetchval(left) == 0
