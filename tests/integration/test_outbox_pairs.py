"""The pair limit: so many to one recipient at once, then one in pair_seconds; and what 131056 does to that recipient alone.

Time passes by shifting the rows' own moments into the past.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import asyncpg
import pytest

from tests.outbox_rows import Outbox, ago, ahead, outbox_at
from waemitter.outbox.message import Attempt
from waemitter.outbox.retry import Outcome
from waemitter.outbox.store import OutboxStore

ADA = "+14155550123"
BOB = "+14155550124"
SLACK = 0.7  # seconds: a claim's horizon, a twentieth of pair_seconds, some for a slow machine


@pytest.fixture
async def outbox(dsn: str) -> AsyncIterator[Outbox]:
    async with outbox_at(dsn) as outbox:
        await outbox.channel(pair_seconds=6.0, pair_burst=1)
        yield outbox


async def put(outbox: Outbox, count: int = 1, recipient: str = ADA, **columns: object) -> list[int]:
    """Rows of the recipient's own lane."""
    return await outbox.put_many(
        count, **({"recipient": recipient, "ordering_key": None} | columns)
    )


async def send(outbox: Outbox) -> list[int]:
    """Everything that may go now, one after the other as lanes want it."""
    sent: list[int] = []
    while attempts := (await outbox.claim()).attempts:
        await outbox.settle_all(attempts)
        sent += [attempt.id for attempt in attempts]
    return sent


async def pairs(outbox: Outbox) -> list[asyncpg.Record]:
    return await outbox.pool.fetch("select * from waemitter.outbox_pairs order by address")


async def pass_time(outbox: Outbox, seconds: float) -> None:
    await outbox.pool.execute(
        "update waemitter.outbox_pairs set tat = tat - $1 * interval '1 second',"
        " struck_at = struck_at - $1 * interval '1 second',"
        " blocked_until = blocked_until - $1 * interval '1 second'",
        seconds,
    )
    await outbox.pool.execute(
        "update waemitter.outbox_messages set claimed_at = claimed_at - $1 * interval '1 second',"
        " sent_at = sent_at - $1 * interval '1 second',"
        " available_at = case when available_at < 'infinity' then available_at - $1 * interval '1 second'"
        " else available_at end",
        seconds,
    )


async def wait_of(outbox: Outbox, message: int) -> float:
    """Seconds until a row that waits for its recipient may go."""
    row = await outbox.row(message)
    assert (row["status"], row["hold"]) == ("queued", "pair")
    return float((row["available_at"] - ago(0)).total_seconds())


async def test_a_second_message_within_pair_seconds_waits_and_others_do_not(outbox: Outbox) -> None:
    [first] = await put(outbox)
    assert await send(outbox) == [first]
    [second], [other] = await put(outbox), await put(outbox, recipient=BOB)

    assert await send(outbox) == [other]
    assert await wait_of(outbox, second) == pytest.approx(6, abs=SLACK)
    await pass_time(outbox, 7)
    assert await send(outbox) == [second]


async def test_the_next_due_time_is_that_of_the_row_that_waits(outbox: Outbox) -> None:
    await put(outbox)
    await send(outbox)
    [second] = await put(outbox)

    claimed = await outbox.claim()

    due = (await outbox.row(second))["available_at"].timestamp()
    assert claimed.next_due == pytest.approx(due, abs=0.001)


async def test_a_burst_goes_at_once_and_then_one_in_pair_seconds(outbox: Outbox) -> None:
    await outbox.channel(pair_burst=3)
    messages = await put(outbox, 5)

    assert await send(outbox) == messages[:3]
    for message in messages[3:]:
        wait = await wait_of(outbox, message)
        assert wait == pytest.approx(6, abs=SLACK)
        await pass_time(outbox, wait)
        assert await send(outbox) == [message]


async def test_credit_comes_back_with_time(outbox: Outbox) -> None:
    await outbox.channel(pair_burst=3)
    await put(outbox, 3)
    await send(outbox)
    await pass_time(outbox, 13)
    messages = await put(outbox, 3)

    assert await send(outbox) == messages[:2]


async def test_a_row_of_the_pair_exists_only_for_a_second_message_within_pair_seconds(
    outbox: Outbox,
) -> None:
    await outbox.channel(pair_burst=45)
    await put(outbox)
    await put(outbox, recipient=BOB)
    await send(outbox)
    assert await pairs(outbox) == []

    await pass_time(outbox, 7)
    await put(outbox, recipient=BOB)
    await send(outbox)
    assert await pairs(outbox) == []

    await put(outbox, recipient=BOB)
    await send(outbox)
    assert [pair["address"] for pair in await pairs(outbox)] == ["14155550124"]


async def test_the_limit_is_the_recipients_however_written_and_whatever_the_lane(
    outbox: Outbox,
) -> None:
    await put(outbox)
    await send(outbox)
    waiting = [
        *await put(outbox, recipient="1 415 5550123"),
        *await put(outbox, ordering_key="code"),
    ]

    assert await send(outbox) == []
    for message in waiting:
        assert await wait_of(outbox, message) > 0


async def test_several_lanes_of_one_recipient_share_the_credit_within_one_claim(
    outbox: Outbox,
) -> None:
    await outbox.channel(pair_burst=2)
    lanes = [(await put(outbox, ordering_key=lane))[0] for lane in ("a", "b", "c", "d")]

    assert await outbox.claim_ids() == lanes[:2]
    assert await wait_of(outbox, lanes[2]) == pytest.approx(6, abs=SLACK)
    assert await wait_of(outbox, lanes[3]) == pytest.approx(12, abs=SLACK)


async def test_unordered_messages_pay_nothing_for_it(outbox: Outbox) -> None:
    messages = await put(outbox, 60, ordering_key="")

    assert await send(outbox) == messages
    assert await pairs(outbox) == []


async def test_zero_is_no_limit(outbox: Outbox) -> None:
    await outbox.channel(pair_seconds=0.0)
    messages = await put(outbox, 50)

    assert await send(outbox) == messages
    assert await pairs(outbox) == []


async def test_limits_of_the_settings_are_written_and_absent_ones_leave_the_row_alone(
    outbox: Outbox,
) -> None:
    statement = "select messages_per_second, pair_seconds, pair_burst from waemitter.channels"
    await outbox.store.ensure_channel(
        "default", phone_number_id="1", messages_per_second=7.5, pair_seconds=0.5, pair_burst=3
    )
    assert [tuple(row) for row in await outbox.pool.fetch(statement)] == [(7.5, 0.5, 3)]

    await outbox.store.ensure_channel(
        "default", phone_number_id="2", messages_per_second=None, pair_seconds=None, pair_burst=None
    )
    assert [tuple(row) for row in await outbox.pool.fetch(statement)] == [(7.5, 0.5, 3)]


async def test_channels_have_pairs_of_their_own(outbox: Outbox) -> None:
    await outbox.channel("other", messages_per_second=0.0, pair_burst=1)
    await put(outbox)
    await send(outbox)
    [there] = await put(outbox, channel="other")

    assert await outbox.claim_ids(channel="other") == [there]


async def test_another_daemon_and_a_restarted_one_know_the_state(outbox: Outbox) -> None:
    await put(outbox)
    await send(outbox)
    await put(outbox)
    restarted = OutboxStore(outbox.pool)

    assert await outbox.claim_ids(store=restarted) == []


async def test_a_row_that_waits_keeps_its_lane_in_order(outbox: Outbox) -> None:
    await put(outbox)
    await send(outbox)
    [head] = await put(outbox)
    await outbox.claim()
    [behind] = await put(outbox)

    assert await send(outbox) == []
    assert (await outbox.row(behind))["hold"] == "lane"
    await outbox.store.sweep()
    assert await send(outbox) == []
    await pass_time(outbox, 7)
    assert await send(outbox) == [head]
    await pass_time(outbox, 7)
    assert await send(outbox) == [behind]


async def test_a_cancelled_head_lets_the_next_one_wait_in_its_stead(outbox: Outbox) -> None:
    await put(outbox)
    await send(outbox)
    head, behind = await put(outbox, 2)
    await outbox.claim()
    await outbox.claim()

    assert await outbox.store.cancel([head]) == [head]
    await outbox.claim()

    assert await wait_of(outbox, behind) == pytest.approx(6, abs=SLACK)


async def test_a_row_that_waits_keeps_its_own_due_time_in_mind(outbox: Outbox) -> None:
    await put(outbox)
    await send(outbox)
    due = ago(30)
    [message] = await put(outbox, available_at=due)
    await outbox.claim()

    assert (await outbox.row(message))["due_at"] == due


async def test_a_row_that_waits_may_expire(outbox: Outbox) -> None:
    await put(outbox)
    await send(outbox)
    [message] = await put(outbox, expires_at=ahead(3))
    await outbox.claim()
    await pass_time(outbox, 7)
    await outbox.change(message, expires_at=ago(1))

    await outbox.claim()

    assert (await outbox.row(message))["status"] == "expired"


async def struck(outbox: Outbox) -> Attempt:
    """Claim the one message, and let Meta refuse it."""
    attempt = await outbox.claim_one()
    await outbox.settle(attempt, Outcome.PAIR, delay=0.0, code=131056, reason="pair rate limit")
    return attempt


async def test_131056_is_waited_out_4_to_the_n_seconds_and_burns_no_attempt(outbox: Outbox) -> None:
    [message] = await put(outbox)
    waits = []
    for _ in range(7):
        await struck(outbox)
        waits.append(await wait_of(outbox, message))
        await pass_time(outbox, waits[-1] + 0.001)

    assert waits == pytest.approx([1, 4, 16, 64, 256, 1024, 1024], abs=0.5)
    assert (await outbox.row(message))["attempts"] == 0


async def test_131056_concerns_that_recipient_alone(outbox: Outbox) -> None:
    await put(outbox)
    await struck(outbox)
    [behind], [other] = await put(outbox), await put(outbox, recipient=BOB)

    assert await send(outbox) == [other]
    assert (await outbox.row(behind))["hold"] == "lane"


async def test_another_lane_of_the_recipient_waits_too(outbox: Outbox) -> None:
    await outbox.channel(pair_burst=45)
    await put(outbox)
    await struck(outbox)
    [code] = await put(outbox, ordering_key="code")

    assert await send(outbox) == []
    assert await wait_of(outbox, code) == pytest.approx(1, abs=SLACK)


async def test_a_success_ends_the_strikes(outbox: Outbox) -> None:
    [first] = await put(outbox)
    for seconds in (1.1, 4.1):
        await struck(outbox)
        await pass_time(outbox, seconds)
    await pass_time(outbox, 7)
    assert await send(outbox) == [first]
    await pass_time(outbox, 10)
    [second] = await put(outbox)

    await struck(outbox)

    assert await wait_of(outbox, second) == pytest.approx(1, abs=0.5)


async def test_after_a_refusal_metas_credit_counts_as_spent(outbox: Outbox) -> None:
    await outbox.channel(pair_burst=3)
    messages = await put(outbox, 3)
    await struck(outbox)
    await pass_time(outbox, 1.1)

    assert await send(outbox) == messages[:1]
    assert await wait_of(outbox, messages[1]) == pytest.approx(5, abs=SLACK)
    await pass_time(outbox, 6)
    assert await send(outbox) == messages[1:2]
    assert await wait_of(outbox, messages[2]) == pytest.approx(5, abs=SLACK)


async def test_the_sweep_forgets_pairs_that_are_paid(outbox: Outbox) -> None:
    await outbox.channel(pair_burst=45)
    await put(outbox, 3)
    await put(outbox, 3, recipient=BOB)
    await send(outbox)
    await outbox.store.sweep()
    assert len(await pairs(outbox)) == 2
    await outbox.pool.execute(
        "update waemitter.outbox_pairs set tat = now() - interval '1 second' where address = '14155550124'"
    )

    await outbox.store.sweep()

    assert [pair["address"] for pair in await pairs(outbox)] == ["14155550123"]


async def test_a_claim_parks_some_five_hundred_of_one_lane_and_sends_what_is_behind(
    outbox: Outbox,
) -> None:
    await outbox.pool.execute(
        "insert into waemitter.outbox_messages (recipient, message_type, payload)"
        " select $1, 'text', '{}' from generate_series(1, 1750)",
        ADA,
    )
    [other] = await put(outbox, recipient=BOB)
    parked, found = [], []
    while other not in found:
        claimed = await outbox.claim()
        found += [attempt.id for attempt in claimed.attempts]
        parked.append(
            await outbox.pool.fetchval(
                "select count(*) from waemitter.outbox_messages where hold = 'lane'"
            )
        )

    steps = [later - sooner for sooner, later in zip([0, *parked], parked, strict=False)]
    assert max(steps) <= 550
    assert len(parked) <= 5
    assert len(found) == 2
