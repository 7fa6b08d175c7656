"""What a claim takes, in which order, what it leaves alone, and when it says to come back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.outbox_rows import GRACE, LEASE, Outbox, ago, ahead, outbox_at, status
from waemitter.outbox.retry import Outcome

AT_ONCE = 1.0
"""Seconds within which a claim answers that waits for nobody's lock."""


@pytest.fixture
async def outbox(dsn: str) -> AsyncIterator[Outbox]:
    async with outbox_at(dsn) as outbox:
        yield outbox


async def test_a_claimed_row_is_sending_with_a_token_an_attempt_and_a_lease(outbox: Outbox) -> None:
    message = await outbox.put(recipient="+14155550199", max_attempts=3, correlation_id="order-17")

    claimed = await outbox.claim()

    (attempt,) = claimed.attempts
    row = await outbox.row(message)
    assert (attempt.id, attempt.recipient, attempt.number) == (message, "+14155550199", 1)
    assert (attempt.max_attempts, attempt.correlation_id) == (3, "order-17")
    assert (row["status"], row["attempts"], row["token"]) == ("sending", 1, attempt.token)
    assert row["available_at"].timestamp() == pytest.approx(claimed.clock + LEASE, abs=0.001)
    assert claimed.next_due == pytest.approx(claimed.clock + LEASE, abs=0.001)
    assert await outbox.claim_ids() == []


async def test_only_due_rows_are_claimed_and_the_next_due_time_is_exact(outbox: Outbox) -> None:
    later, sooner = ahead(3600), ahead(1800)
    await outbox.put(available_at=later)
    await outbox.put(available_at=sooner, priority=-5)

    claimed = await outbox.claim()

    assert claimed.attempts == []
    assert claimed.next_due == pytest.approx(sooner.timestamp(), abs=0.001)


async def test_an_empty_queue_has_no_next_due_time(outbox: Outbox) -> None:
    assert (await outbox.claim()).next_due is None


async def test_priority_goes_before_age_and_age_before_id(outbox: Outbox) -> None:
    young = await outbox.put(available_at=ago(10))
    old = await outbox.put(available_at=ago(20))
    urgent = await outbox.put(priority=9, available_at=ago(1))
    low = await outbox.put(priority=-1, available_at=ago(3600))

    assert [(await outbox.claim_ids(1))[0] for _ in range(4)] == [urgent, old, young, low]


async def test_a_claim_takes_no_more_than_its_limit(outbox: Outbox) -> None:
    messages = await outbox.put_many(5)

    assert await outbox.claim_ids(2) == messages[:2]
    assert await outbox.claim_ids(2) == messages[2:4]
    assert await outbox.claim_ids(2) == messages[4:]


async def test_what_a_full_claim_left_behind_is_due_at_once_whatever_its_priority(
    outbox: Outbox,
) -> None:
    await outbox.put(priority=1)
    await outbox.put(priority=1, available_at=ahead(3600))
    await outbox.put(priority=0)

    claimed = await outbox.claim(1)

    assert claimed.next_due is not None
    assert claimed.next_due <= claimed.clock


async def test_held_rows_are_neither_claimed_nor_next(outbox: Outbox) -> None:
    await outbox.put()
    await outbox.pool.execute(
        "update waemitter.outbox_messages set available_at = 'infinity', hold = 'campaign'"
    )

    claimed = await outbox.claim()

    assert claimed.attempts == []
    assert claimed.next_due is None


async def test_a_paused_channel_gives_nothing_until_the_pause_is_over(outbox: Outbox) -> None:
    message = await outbox.put()
    until = ahead(600)
    await outbox.channel(paused_until=until)

    paused = await outbox.claim()
    await outbox.channel(paused_until=ago(1))

    assert paused.attempts == []
    assert paused.next_due == pytest.approx(until.timestamp(), abs=0.001)
    assert await outbox.claim_ids() == [message]


async def test_a_channel_paused_until_resumed_names_no_time(outbox: Outbox) -> None:
    await outbox.put()
    await outbox.pool.execute("update waemitter.channels set paused_until = 'infinity'")

    claimed = await outbox.claim()

    assert (claimed.attempts, claimed.next_due) == ([], None)


async def test_two_channels_do_not_disturb_each_other(outbox: Outbox) -> None:
    await outbox.channel("other", messages_per_second=0.0, paused_until=ahead(60))
    mine, others = await outbox.put(), await outbox.put(channel="other")
    await outbox.put(channel="other", available_at=ahead(5))

    claimed = await outbox.claim()
    await outbox.channel("other", paused_until=None)

    assert [attempt.id for attempt in claimed.attempts] == [mine]
    assert claimed.next_due == pytest.approx(claimed.clock + LEASE, abs=0.001)
    assert await outbox.claim_ids(channel="other") == [others]


async def test_the_same_lane_on_two_channels_is_two_lanes(outbox: Outbox) -> None:
    await outbox.channel("other", messages_per_second=0.0)
    mine = await outbox.put(ordering_key="Ada")
    others = await outbox.put(ordering_key="Ada", channel="other")

    assert await outbox.claim_ids() == [mine]
    assert await outbox.claim_ids(channel="other") == [others]


async def test_a_channel_claimed_by_another_is_asked_again_in_5_ms(outbox: Outbox) -> None:
    await outbox.put()
    async with outbox.pool.acquire() as other, other.transaction():
        await other.execute("select from waemitter.channel_buckets for no key update")

        async with asyncio.timeout(AT_ONCE):
            claimed = await outbox.claim()

    assert claimed.attempts == []
    assert claimed.not_before == pytest.approx(claimed.clock + 0.005, abs=0.0001)


async def test_locked_rows_are_skipped_without_waiting_and_hide_nobody_behind_them(
    outbox: Outbox,
) -> None:
    locked, free = await outbox.put_many(5), await outbox.put_many(3)
    async with outbox.pool.acquire() as other, other.transaction():
        for message in locked:
            assert await other.fetchval("select waemitter.cancel_message($1)", message)

        async with asyncio.timeout(AT_ONCE):
            assert await outbox.claim_ids(3) == free

    assert await outbox.claim_ids() == []


@pytest.mark.parametrize(
    "columns",
    [
        {"status": "sending", "claimed_at": ago(60), "attempts": 1},
        {"status": "unconfirmed", "claimed_at": ago(60), "attempts": 1},
        {"expires_at": ago(1)},
        {"ordering_key": "Ada"},
    ],
    ids=["lease over", "grace over", "expired", "to be parked"],
)
async def test_a_row_that_needs_something_else_than_sending_is_skipped_while_locked(
    outbox: Outbox, columns: dict[str, object]
) -> None:
    first = await outbox.put(ordering_key="Ada", available_at=ago(9))
    troubled = await outbox.put(available_at=ago(5), **columns)
    free = await outbox.put(available_at=ago(1))
    async with outbox.pool.acquire() as other, other.transaction():
        await other.execute(
            "select from waemitter.outbox_messages where id = $1 for update", troubled
        )

        async with asyncio.timeout(AT_ONCE):
            claimed = await outbox.claim()

    assert [attempt.id for attempt in claimed.attempts] == [first, free]
    assert (claimed.lost, claimed.resent, claimed.held) == (0, 0, 0)


async def test_a_lease_that_ran_out_makes_a_row_unconfirmed_and_keeps_its_token(
    outbox: Outbox,
) -> None:
    message = await outbox.put()
    attempt = await outbox.claim_one()
    await outbox.change(message, available_at=ago(1))

    claimed = await outbox.claim()

    row = await outbox.row(message)
    assert (claimed.attempts, claimed.lost) == ([], 1)
    assert (row["status"], row["token"], row["attempts"]) == ("unconfirmed", attempt.token, 1)
    assert row["available_at"].timestamp() == pytest.approx(claimed.clock + GRACE, abs=0.001)
    assert claimed.next_due == pytest.approx(claimed.clock + GRACE, abs=0.001)
    assert await outbox.events(message) == [("sending", "unconfirmed")]


async def statuses_are_known_to_come(outbox: Outbox) -> None:
    message = await outbox.put()
    attempt = await outbox.claim_one()
    await outbox.settle(attempt)
    await outbox.apply(status("delivered", attempt))
    assert (await outbox.row(message))["status"] == "delivered"


async def unconfirmed(outbox: Outbox, **columns: object) -> int:
    """A row whose grace is over."""
    message = await outbox.put(**columns)
    await outbox.lose(await outbox.claim_one())
    await outbox.change(message, available_at=ago(1))
    return message


async def test_after_the_grace_a_message_is_sent_again_where_statuses_are_known_to_come(
    outbox: Outbox,
) -> None:
    await statuses_are_known_to_come(outbox)
    message = await unconfirmed(outbox)

    claimed = await outbox.claim()

    assert [(attempt.id, attempt.number) for attempt in claimed.attempts] == [(message, 2)]
    assert (claimed.resent, claimed.held) == (1, 0)


@pytest.mark.parametrize(
    ("columns", "channel_policy", "retries", "again"),
    [
        ({}, None, 0, False),
        ({}, None, 1, True),
        ({"max_attempts": 0}, None, 5, False),
        ({"max_attempts": 1}, None, 0, True),
        ({"unconfirmed_policy": "hold"}, None, 5, False),
        ({"unconfirmed_policy": "hold"}, "retry", 5, False),
        ({"unconfirmed_policy": "retry"}, "hold", 5, True),
        ({}, "hold", 5, False),
        ({}, "retry", 5, True),
    ],
)
async def test_who_decides_whether_it_is_sent_again(
    outbox: Outbox,
    columns: dict[str, object],
    channel_policy: str | None,
    retries: int,
    again: bool,  # noqa: FBT001 a parameter of the table above
) -> None:
    await statuses_are_known_to_come(outbox)
    await outbox.channel(unconfirmed_policy=channel_policy)
    message = await unconfirmed(outbox, **columns)

    claimed = await outbox.claim(retries=retries)

    row = await outbox.row(message)
    assert (claimed.resent, claimed.held) == (again, not again)
    assert row["status"] == ("sending" if again else "unconfirmed")
    assert row["hold"] == (None if again else "unconfirmed")
    assert claimed.next_due == (pytest.approx(claimed.clock + LEASE, abs=1) if again else None)


async def test_the_daemons_policy_holds_where_nobody_else_decides(outbox: Outbox) -> None:
    await statuses_are_known_to_come(outbox)
    message = await unconfirmed(outbox)

    assert (await outbox.claim(policy="hold")).held == 1
    assert (await outbox.row(message))["hold"] == "unconfirmed"


async def test_a_channel_that_never_saw_a_status_holds_what_is_unconfirmed(outbox: Outbox) -> None:
    await unconfirmed(outbox)

    assert (await outbox.claim()).held == 1


async def test_a_status_that_tells_nothing_new_still_proves_that_statuses_come(
    outbox: Outbox,
) -> None:
    await outbox.put()
    attempt = await outbox.claim_one()
    await outbox.settle(attempt)
    await outbox.apply(status("sent", attempt))
    await unconfirmed(outbox)

    assert (await outbox.claim()).resent == 1


async def test_held_as_unconfirmed_frees_its_lane(outbox: Outbox) -> None:
    held = await unconfirmed(outbox, ordering_key="Ada")
    follower = await outbox.put(ordering_key="Ada")

    claims = [await outbox.claim(), await outbox.claim()]

    assert sum(claimed.held for claimed in claims) == 1
    assert [each.id for claimed in claims for each in claimed.attempts] == [follower]
    assert (await outbox.row(held))["hold"] == "unconfirmed"


async def test_a_message_that_expired_is_not_sent(outbox: Outbox) -> None:
    expired, alive = await outbox.put(expires_at=ago(1)), await outbox.put(expires_at=ahead(60))

    assert await outbox.claim_ids() == [alive]

    row = await outbox.row(expired)
    assert (row["status"], row["available_at"]) == ("expired", None)
    assert row["error_message"] == "expires_at passed before it could be sent"
    assert await outbox.events(expired) == [("queued", "expired")]


async def test_a_retry_that_expired_meanwhile_is_not_sent(outbox: Outbox) -> None:
    message = await outbox.put(expires_at=ahead(60))
    await outbox.settle(await outbox.claim_one(), Outcome.RETRY, delay=0.0)
    await outbox.change(message, expires_at=ago(1))

    assert await outbox.claim_ids() == []
    assert (await outbox.row(message))["status"] == "expired"


async def test_each_attempt_has_its_own_token_and_the_old_ones_are_remembered(
    outbox: Outbox,
) -> None:
    message = await outbox.put()
    tokens = []
    for _ in range(4):
        attempt = await outbox.claim_one()
        tokens.append(attempt.token)
        await outbox.settle(attempt, Outcome.RETRY, delay=0.0)

    remembered = await outbox.pool.fetch(
        "select token from waemitter.outbox_attempts where message_id = $1 order by ended_at",
        message,
    )

    assert len(set(tokens)) == 4
    assert [record["token"] for record in remembered] == tokens[:3]


async def test_the_audit_trail_tells_each_attempt_but_the_first(outbox: Outbox) -> None:
    message = await outbox.put()
    await outbox.settle(await outbox.claim_one(), Outcome.RETRY, delay=0.0, code=131000)
    await outbox.settle(await outbox.claim_one(), Outcome.RETRY, delay=0.0, code=131000)
    await outbox.settle(await outbox.claim_one())

    assert await outbox.events(message) == [
        ("sending", "queued"),
        ("queued", "sending"),
        ("sending", "queued"),
        ("queued", "sending"),
        ("sending", "sent"),
    ]


async def test_many_locked_expired_leases_end_in_a_claim_and_not_in_a_circle(
    outbox: Outbox,
) -> None:
    await outbox.pool.execute(
        """
        insert into waemitter.outbox_messages (recipient, message_type, payload, ordering_key, status, claimed_at, attempts)
        select '+1415555' || n, 'text', '{}', '', 'sending', clock_timestamp(), 1 from generate_series(1, 750) n
        """
    )
    free = await outbox.put(priority=-1)
    async with outbox.pool.acquire() as other, other.transaction():
        await other.execute(
            "select from waemitter.outbox_messages where status = 'sending' for update"
        )

        async with asyncio.timeout(AT_ONCE):
            assert await outbox.claim_ids() == [free]

    assert [(await outbox.claim()).lost for _ in range(2)] == [500, 250]


async def test_a_channel_that_is_not_there_gives_nothing(outbox: Outbox) -> None:
    assert (await outbox.claim(channel="nowhere")).attempts == []


async def test_a_message_inserted_without_a_time_is_due_now(outbox: Outbox) -> None:
    message = await outbox.put(available_at=None)
    assert await outbox.claim_ids() == [message]


async def test_a_channel_that_was_deleted_is_not_asked_for_again_and_again(outbox: Outbox) -> None:
    await outbox.put()
    await outbox.pool.execute("delete from waemitter.channels")
    claimed = await outbox.claim()
    assert (claimed.attempts, claimed.not_before, claimed.next_due) == ([], None, None)
