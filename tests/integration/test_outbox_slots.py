"""The bucket row: send slots apart from one another, however many daemons ask, and however often.

Time passes by moving the bucket back: a slot handed out after the move is that much later on the clock of the test.
"""

from __future__ import annotations

import asyncio
import math
from bisect import bisect_left
from collections.abc import AsyncIterator, Sequence
from itertools import pairwise
from typing import Final, NamedTuple

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.outbox_rows import Outbox, ago, outbox_at
from waemitter.outbox.channels.store import ChannelStore
from waemitter.outbox.retry import Outcome
from waemitter.outbox.store import Claimed, OutboxStore

HORIZON: Final = 0.2
MICROSECOND: Final = (
    2e-6  # the server's clock has microseconds, and a float of the epoch rounds once more
)


@pytest.fixture
async def outbox(dsn: str) -> AsyncIterator[Outbox]:
    async with outbox_at(dsn) as outbox:
        yield outbox


async def fill(outbox: Outbox, count: int, channel: str = "default") -> None:
    await outbox.pool.execute(
        "insert into waemitter.outbox_messages (recipient, message_type, payload, ordering_key, channel)"
        " select '+1415555' || n, 'text', '{}', '', $2 from generate_series(1, $1::integer) n",
        count,
        channel,
    )


async def limit(outbox: Outbox, messages_per_second: float) -> float:
    """Slots a second under that limit."""
    await outbox.channel(messages_per_second=messages_per_second)
    return 0.97 * messages_per_second


async def pass_time(outbox: Outbox, seconds: float) -> None:
    await outbox.pool.execute(
        "update waemitter.channel_buckets set tat = tat - $1 * interval '1 second'", seconds
    )


def slots(claimed: Claimed) -> list[float]:
    return sorted(attempt.slot for attempt in claimed.attempts)


def fullest_second(moments: Sequence[float]) -> int:
    ordered = sorted(moments)
    return max(
        bisect_left(ordered, first + 1 - MICROSECOND) - place for place, first in enumerate(ordered)
    )


async def test_slots_are_spaced_by_97_percent_of_the_limit(outbox: Outbox) -> None:
    rate = await limit(outbox, 80)
    await fill(outbox, 20)

    claimed = await outbox.claim()

    given_out = slots(claimed)
    assert claimed.rate == pytest.approx(rate)
    assert given_out[0] == pytest.approx(claimed.clock, abs=MICROSECOND)
    gaps = [later - sooner for sooner, later in pairwise(given_out)]
    assert gaps == pytest.approx([1 / rate] * len(gaps), abs=MICROSECOND)


@pytest.mark.parametrize("messages_per_second", [1, 20, 80, 1000])
async def test_a_claim_gives_out_the_slots_of_200_ms_and_no_more(
    outbox: Outbox, messages_per_second: float
) -> None:
    rate = await limit(outbox, messages_per_second)
    await fill(outbox, 300)

    first, second = await outbox.claim(500), await outbox.claim(500)

    assert len(first.attempts) == math.floor(HORIZON * rate) + 1
    assert slots(first)[-1] <= first.clock + HORIZON + MICROSECOND
    assert all(slot <= second.clock + HORIZON + MICROSECOND for slot in slots(second))
    assert first.not_before is not None
    next_slot = slots(first)[0] + len(first.attempts) / rate
    assert first.not_before == pytest.approx(next_slot - HORIZON / 2, abs=2 * MICROSECOND)


async def test_the_next_claim_goes_on_where_the_last_one_ended(outbox: Outbox) -> None:
    rate = await limit(outbox, 80)
    await fill(outbox, 40)

    first = await outbox.claim(5)
    second = await outbox.claim(5)

    assert slots(second)[0] == pytest.approx(slots(first)[-1] + 1 / rate, abs=2 * MICROSECOND)


async def test_time_without_messages_saves_no_slots_up(outbox: Outbox) -> None:
    rate = await limit(outbox, 80)
    await fill(outbox, 60)
    await outbox.claim()
    await pass_time(outbox, 3600)

    assert len((await outbox.claim()).attempts) == math.floor(HORIZON * rate) + 1


async def test_a_slot_is_only_used_up_by_a_row_that_was_taken(outbox: Outbox) -> None:
    await limit(outbox, 1)
    empty = await outbox.claim()
    await fill(outbox, 1)

    assert empty.not_before is None
    assert len((await outbox.claim()).attempts) == 1


async def test_without_slots_the_next_due_time_is_now_and_the_claim_in_vain_until_later(
    outbox: Outbox,
) -> None:
    await limit(outbox, 1)
    await fill(outbox, 3)
    await outbox.claim()

    claimed = await outbox.claim()

    assert claimed.attempts == []
    assert claimed.next_due is not None
    assert claimed.next_due <= claimed.clock
    assert claimed.not_before is not None
    assert claimed.not_before > claimed.clock + 0.5


async def test_without_slots_a_lower_priority_that_is_due_is_not_forgotten(outbox: Outbox) -> None:
    await limit(outbox, 1)
    await outbox.put(priority=5)
    low = await outbox.put(priority=0)
    await outbox.claim()

    claimed = await outbox.claim()
    await pass_time(outbox, 10)

    assert claimed.next_due is not None
    assert claimed.next_due <= claimed.clock
    assert await outbox.claim_ids() == [low]


async def test_a_changed_limit_takes_effect_at_the_next_claim(outbox: Outbox) -> None:
    await limit(outbox, 1)
    await fill(outbox, 300)
    await outbox.claim()
    rate = await limit(outbox, 1000)
    await pass_time(outbox, 2)

    claimed = await outbox.claim(500)

    assert len(claimed.attempts) == math.floor(HORIZON * rate) + 1
    assert claimed.rate == pytest.approx(rate)


async def test_zero_is_no_limit(outbox: Outbox) -> None:
    await limit(outbox, 0)
    await fill(outbox, 300)

    claimed = await outbox.claim(500)

    assert len(claimed.attempts) == 300
    assert (claimed.rate, claimed.not_before) == (0, None)
    assert {attempt.slot for attempt in claimed.attempts} == {claimed.clock}


async def test_a_limit_below_zero_is_refused(outbox: Outbox) -> None:
    with pytest.raises(asyncpg.CheckViolationError):
        await limit(outbox, -1)


async def test_a_channels_name_is_held_to_its_alphabet(outbox: Outbox) -> None:
    with pytest.raises(asyncpg.CheckViolationError):
        await outbox.channel("no spaces")


async def test_each_channel_has_its_own_slots(outbox: Outbox) -> None:
    rate = await limit(outbox, 80)
    await outbox.channel("other", messages_per_second=80.0)
    await fill(outbox, 30)
    await fill(outbox, 30, channel="other")

    mine, others = await outbox.claim(), await outbox.claim(channel="other")

    assert len(mine.attempts) == len(others.attempts) == math.floor(HORIZON * rate) + 1


async def test_a_released_row_does_not_give_its_slot_back(outbox: Outbox) -> None:
    await limit(outbox, 1)
    await outbox.put(available_at=ago(5))
    attempt = await outbox.claim_one()
    tat = await outbox.pool.fetchval("select tat from waemitter.channel_buckets")

    await outbox.settle(attempt, Outcome.RELEASE)

    assert await outbox.claim_ids() == []
    assert await outbox.pool.fetchval("select tat from waemitter.channel_buckets") == tat


class Step(NamedTuple):
    """Three daemons ask at once for so many rows each; then time passes."""

    limits: list[int]
    seconds: float


STEPS: Final = st.lists(
    st.builds(
        Step,
        limits=st.lists(st.sampled_from([1, 3, 20, 500]), min_size=3, max_size=3),
        seconds=st.one_of(st.just(0.0), st.floats(0.0, 0.4), st.floats(0.9, 1.1)),
    ),
    min_size=3,
    max_size=14,
)


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],  # each example clears the table
)
@given(messages_per_second=st.sampled_from([1.0, 7.5, 80.0, 250.0]), steps=STEPS)
async def test_no_sliding_second_is_ever_too_full(
    outbox: Outbox, *, messages_per_second: float, steps: list[Step]
) -> None:
    await outbox.pool.execute("truncate waemitter.outbox_messages")
    await outbox.pool.execute("update waemitter.channel_buckets set tat = '-infinity'")
    rate = await limit(outbox, messages_per_second)
    await fill(outbox, 900)
    daemons = [OutboxStore(outbox.pool) for _ in range(3)]
    moments: list[float] = []
    passed = 0.0
    for step in steps:
        claims = await asyncio.gather(
            *(
                outbox.claim(rows, store=daemon)
                for rows, daemon in zip(step.limits, daemons, strict=True)
            )
        )
        moments += [passed + slot for claimed in claims for slot in slots(claimed)]
        await pass_time(outbox, step.seconds)
        passed += step.seconds

    assert moments
    assert fullest_second(moments) <= math.floor(rate) + 1


async def shift_bucket(outbox: Outbox, seconds: float) -> None:
    await outbox.pool.execute(
        "update waemitter.channel_buckets set tat = '-infinity',"
        " inbound_at = inbound_at - $1 * interval '1 second'",
        seconds,
    )
    await outbox.pool.execute(
        "update waemitter.channels set throttled_at = throttled_at - $1 * interval '1 second'",
        seconds,
    )


async def rate_of(outbox: Outbox) -> float:
    rate = (await outbox.claim(1)).rate
    assert rate is not None
    return rate


async def throttle(outbox: Outbox) -> bool:
    lowered: bool = await outbox.pool.fetchval("select waemitter.throttle_channel('default')")
    return lowered


async def test_130429_lowers_the_rate_for_all_and_time_brings_it_back(outbox: Outbox) -> None:
    rate = await limit(outbox, 100)

    assert await throttle(outbox)
    assert not await throttle(outbox)  # another answer of the same moment
    assert await rate_of(outbox) == pytest.approx(0.7 * rate, rel=0.02)
    await shift_bucket(outbox, 30)
    assert await rate_of(outbox) == pytest.approx(0.8 * rate, rel=0.02)
    assert await throttle(outbox)
    assert await rate_of(outbox) == pytest.approx(0.56 * rate, rel=0.02)
    await shift_bucket(outbox, 300)
    assert await rate_of(outbox) == pytest.approx(rate)


async def test_news_of_before_the_last_lowering_lower_nothing_nor_do_old_ones(
    outbox: Outbox,
) -> None:
    rate = await limit(outbox, 100)

    async def told(seconds_ago: float) -> float:
        await ChannelStore(outbox.pool).throttle(phone_number_id="1", happened=ago(seconds_ago))
        return await rate_of(outbox)

    await outbox.channel(phone_number_id="1")
    assert await told(301) == pytest.approx(rate)
    assert await told(3) == pytest.approx(0.7 * rate, rel=0.02)
    assert await told(1) == pytest.approx(0.7 * rate, rel=0.02)
    await shift_bucket(outbox, 30)
    assert await told(29) == pytest.approx(0.8 * rate, rel=0.02)
    assert await told(20) == pytest.approx(0.56 * rate, rel=0.02)


async def test_the_rate_never_falls_below_a_tenth(outbox: Outbox) -> None:
    rate = await limit(outbox, 100)
    for _ in range(10):
        await throttle(outbox)
        await shift_bucket(outbox, 2.1)

    assert await rate_of(outbox) == pytest.approx(0.1 * rate, rel=0.1)
    await outbox.store.reserve_inbound("default", 500)
    assert await rate_of(outbox) == pytest.approx(0.1 * rate)


async def test_inbound_messages_have_their_share_of_the_limit_for_a_minute(outbox: Outbox) -> None:
    await limit(outbox, 100)
    await outbox.store.reserve_inbound("default", 30)
    await outbox.store.reserve_inbound("default", 10)

    assert await rate_of(outbox) == pytest.approx(0.97 * 70)
    await shift_bucket(outbox, 30)
    await outbox.store.reserve_inbound("default", 40)
    await shift_bucket(outbox, 40)
    assert await rate_of(outbox) == pytest.approx(0.97 * 60)
    await shift_bucket(outbox, 21)
    assert await rate_of(outbox) == pytest.approx(0.97 * 100)


async def test_the_gauge_knows_the_rate_that_is_left(outbox: Outbox) -> None:
    await limit(outbox, 100)
    await outbox.store.reserve_inbound("default", 50)

    (channel,) = await outbox.store.channels()

    assert channel.rate == pytest.approx(0.97 * 50)


async def upgrade(outbox: Outbox) -> bool:
    raised: bool = await outbox.pool.fetchval("select waemitter.upgrade_throughput('default')")
    return raised


async def test_a_number_that_meta_upgraded_is_raised_by_itself(outbox: Outbox) -> None:
    await limit(outbox, 80)
    await throttle(outbox)

    assert await upgrade(outbox)
    assert await rate_of(outbox) == pytest.approx(970)


@pytest.mark.parametrize("own", [80.0, 250.0], ids=["by a setting", "by an operator"])
async def test_an_upgrade_leaves_a_limit_alone_that_was_set(outbox: Outbox, own: float) -> None:
    if own == 80:
        await outbox.store.ensure_channel(
            "default", phone_number_id="1", messages_per_second=80, pair_seconds=0, pair_burst=1
        )
    else:
        await limit(outbox, own)

    assert not await upgrade(outbox)
    assert await rate_of(outbox) == pytest.approx(0.97 * own)
