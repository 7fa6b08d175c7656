"""Held templates, campaigns that do not run or have a cap of their own, recipients who opted out: met by a claim, and let go."""

from __future__ import annotations

from collections.abc import AsyncIterator
from itertools import pairwise
from typing import Any

import asyncpg
import pytest

from tests.outbox_rows import Outbox, ago, ahead, outbox_at
from waemitter.outbox.retry import Outcome

TEMPLATE = '{"template": {"name": "order_shipped", "language": {"code": "en_US"}}}'


@pytest.fixture
async def outbox(dsn: str) -> AsyncIterator[Outbox]:
    async with outbox_at(dsn) as outbox:
        yield outbox


async def put_template(outbox: Outbox, **columns: Any) -> int:
    return await outbox.put(**({"message_type": "template", "payload": TEMPLATE} | columns))


async def hold(outbox: Outbox, language: str = "", **more: Any) -> None:
    await outbox.pool.execute(
        "select waemitter.hold_template(channel => 'default', template => 'order_shipped', language => $1,"
        " reason => 'paused by Meta', until => $2)",
        language,
        more.get("until"),
    )


async def release(outbox: Outbox) -> int:
    freed: int = await outbox.pool.fetchval(
        "select waemitter.release_template(channel => 'default', template => 'order_shipped')"
    )
    return freed


async def campaign(outbox: Outbox, status: str = "running", cap: float | None = None) -> int:
    campaign_id: int = await outbox.pool.fetchval(
        "insert into waemitter.campaigns (name, status, messages_per_second) values ('May', $1, $2) returning id",
        status,
        cap,
    )
    return campaign_id


async def suppress(outbox: Outbox, address: str, channel: str | None = None) -> None:
    await outbox.pool.execute(
        "insert into waemitter.suppressions (address, channel, reason) values ($1, $2, 'STOP')",
        address,
        channel,
    )


async def state(outbox: Outbox, message: int) -> tuple[str, str | None]:
    row = await outbox.row(message)
    return row["status"], row["hold"]


@pytest.mark.parametrize(
    ("written", "address"),
    [
        ("+14155550123", "14155550123"),
        ("14155550123", "14155550123"),
        ("+1 (415) 555-0123", "14155550123"),
        ("0014155550123", "14155550123"),
        ("US.13491208655302741918", "US.13491208655302741918"),
        (" US.ENT.11815799212886844830 ", "US.ENT.11815799212886844830"),
        ("", ""),
    ],
)
async def test_a_person_has_one_address_however_it_is_written(
    connection: asyncpg.Connection[asyncpg.Record], written: str, address: str
) -> None:
    assert await connection.fetchval("select waemitter.address($1)", written) == address


async def test_a_held_template_waits_and_all_else_goes_on(outbox: Outbox) -> None:
    await hold(outbox)
    waiting = await put_template(outbox, available_at=ago(60))
    other = await outbox.put()

    assert await outbox.claim_ids() == [other]
    assert await state(outbox, waiting) == ("queued", "template:order_shipped")
    assert (await outbox.claim()).next_due is not None  # the lease of the other


async def test_a_released_template_goes_on_with_its_own_due_time(outbox: Outbox) -> None:
    due = ago(60)
    await hold(outbox)
    messages = [await put_template(outbox, available_at=due) for _ in range(3)]
    await outbox.claim()

    freed = await release(outbox)
    row = await outbox.row(messages[0])

    assert freed == 3
    assert (row["available_at"], row["hold"], row["due_at"]) == (due, None, None)
    assert await outbox.claim_ids() == messages


async def test_a_hold_may_concern_one_language_alone(outbox: Outbox) -> None:
    await hold(outbox, language="de")
    english = await put_template(outbox)
    german = await put_template(outbox, payload=TEMPLATE.replace("en_US", "de"))

    assert await outbox.claim_ids() == [english]
    assert await state(outbox, german) == ("queued", "template:order_shipped")


async def test_the_sweep_lets_go_what_was_held_until_now(outbox: Outbox) -> None:
    await hold(outbox, until=ahead(60))
    message = await put_template(outbox)
    assert await outbox.claim_ids() == []
    await outbox.store.sweep()
    assert await outbox.claim_ids() == []
    await outbox.pool.execute("update waemitter.held_templates set until = $1", ago(1))

    await outbox.store.sweep()

    assert await outbox.claim_ids() == [message]
    assert await outbox.pool.fetchval("select count(*) from waemitter.held_templates") == 0


async def test_a_template_that_can_never_be_sent_fails_queued_and_held_rows(outbox: Outbox) -> None:
    await hold(outbox)
    held = await put_template(outbox)
    await outbox.claim()
    queued, other = await put_template(outbox, available_at=ahead(600)), await outbox.put()

    failed = await outbox.pool.fetchval(
        "select waemitter.fail_template(channel => 'default', template => 'order_shipped', code => 132001,"
        " reason => 'the template does not exist')"
    )

    assert failed == 2
    for message in (held, queued):
        row = await outbox.row(message)
        assert (row["status"], row["error_code"]) == ("failed", 132001)
        assert row["error_message"] == "the template does not exist"
        assert await outbox.events(message) == [("queued", "failed")]
    assert await outbox.claim_ids() == [other]


@pytest.mark.parametrize("status", ["draft", "scheduled", "paused"])
async def test_a_campaign_that_does_not_run_waits(outbox: Outbox, status: str) -> None:
    number = await campaign(outbox, status)
    waiting, other = await outbox.put(campaign_id=number), await outbox.put()

    assert await outbox.claim_ids() == [other]
    assert await state(outbox, waiting) == ("queued", f"campaign:{number}")

    await outbox.pool.execute("update waemitter.campaigns set status = 'running'")
    freed = await outbox.pool.fetchval("select waemitter.release_holds($1)", f"campaign:{number}")

    assert freed == 1
    assert await outbox.claim_ids() == [waiting]


@pytest.mark.parametrize("status", ["running", "completed"])
async def test_a_campaign_that_runs_is_no_barrier(outbox: Outbox, status: str) -> None:
    await campaign(outbox, "paused")
    message = await outbox.put(campaign_id=await campaign(outbox, status))

    assert await outbox.claim_ids() == [message]


async def test_rows_of_a_cancelled_campaign_end_cancelled(outbox: Outbox) -> None:
    message = await outbox.put(campaign_id=await campaign(outbox, "cancelled"))

    assert await outbox.claim_ids() == []
    assert await state(outbox, message) == ("cancelled", None)
    assert await outbox.events(message) == [("queued", "cancelled")]


async def test_the_sweep_frees_rows_whose_campaign_was_resumed_unseen(outbox: Outbox) -> None:
    number = await campaign(outbox, "paused")
    messages = await outbox.put_many(3, campaign_id=number)
    still = await outbox.put(campaign_id=await campaign(outbox, "paused"))
    await outbox.claim()
    await outbox.pool.execute(
        "update waemitter.campaigns set status = 'running' where id = $1", number
    )

    await outbox.store.sweep()

    assert await outbox.claim_ids() == messages
    assert (await state(outbox, still))[1] is not None


async def test_holds_are_released_in_batches_the_oldest_first(outbox: Outbox) -> None:
    number = await campaign(outbox, "paused")
    messages = await outbox.put_many(5, campaign_id=number)
    await outbox.claim()
    await outbox.pool.execute("update waemitter.campaigns set status = 'running'")
    statement = "select waemitter.release_holds($1, 3)"

    assert await outbox.pool.fetchval(statement, f"campaign:{number}") == 3
    assert await outbox.claim_ids() == messages[:3]
    assert await outbox.pool.fetchval(statement, f"campaign:{number}") == 2


@pytest.mark.parametrize("hold", ["lane", "unconfirmed"])
async def test_other_holds_are_not_released_by_name(outbox: Outbox, hold: str) -> None:
    first = await outbox.put(ordering_key="Ada")
    behind = await outbox.put(ordering_key="Ada")
    attempt = await outbox.claim_one()
    assert (await state(outbox, behind))[1] == "lane"
    if hold == "unconfirmed":
        await outbox.lose(attempt)
        await outbox.change(first, available_at=ago(1))
        assert (await outbox.claim()).held == 1

    assert await outbox.pool.fetchval("select waemitter.release_holds($1)", hold) == 0


async def test_a_recipient_who_opted_out_is_suppressed_however_the_number_is_written(
    outbox: Outbox,
) -> None:
    await suppress(outbox, "+1 415 555-0123")
    messages = [
        await outbox.put(recipient=recipient)
        for recipient in ("+14155550123", "14155550123", "+1 (415) 5550123")
    ]
    other = await outbox.put(recipient="+14155550124")

    assert await outbox.claim_ids() == [other]
    for message in messages:
        assert await state(outbox, message) == ("suppressed", None)
        assert await outbox.events(message) == [("queued", "suppressed")]


async def test_a_suppression_may_concern_one_channel_alone(outbox: Outbox) -> None:
    await outbox.channel("other", messages_per_second=0.0)
    await suppress(outbox, "14155550123", channel="other")
    here, there = await outbox.put(), await outbox.put(channel="other")

    assert await outbox.claim_ids() == [here]
    assert await outbox.claim_ids(channel="other") == []
    assert (await state(outbox, there))[0] == "suppressed"


async def test_a_suppression_is_written_once_for_each_channel_and_once_for_all(
    outbox: Outbox,
) -> None:
    await suppress(outbox, "14155550123")
    await suppress(outbox, "14155550123", channel="default")

    with pytest.raises(asyncpg.UniqueViolationError):
        await suppress(outbox, "+14155550123")


@pytest.mark.parametrize("started", [False, True], ids=["unstarted", "started"])
async def test_a_lane_goes_on_past_a_row_that_a_barrier_parks(
    outbox: Outbox,
    started: bool,  # noqa: FBT001 a parameter of the table above
) -> None:
    first = await put_template(outbox, ordering_key="Ada")
    second = await outbox.put(ordering_key="Ada")
    if started:
        await outbox.settle(await outbox.claim_one(), Outcome.RETRY, delay=0.0)
    await hold(outbox)

    sent = await outbox.claim_ids() + await outbox.claim_ids()

    assert sent == [second]
    assert (await state(outbox, first))[1] == "template:order_shipped"


async def test_a_lane_goes_on_past_a_row_that_a_barrier_ends(outbox: Outbox) -> None:
    first = await outbox.put(ordering_key="Ada", recipient="+14155550123")
    second = await outbox.put(ordering_key="Ada", recipient="+14155550124")
    await suppress(outbox, "+14155550123")

    sent = await outbox.claim_ids() + await outbox.claim_ids()

    assert sent == [second]
    assert (await state(outbox, first))[0] == "suppressed"


async def test_a_released_row_waits_for_what_its_lane_has_in_flight(outbox: Outbox) -> None:
    await hold(outbox)
    first = await put_template(outbox, ordering_key="Ada")
    await outbox.put(ordering_key="Ada")
    await outbox.claim()
    attempt = await outbox.claim_one()

    await release(outbox)
    while_in_flight = await outbox.claim_ids()
    await outbox.settle(attempt)

    assert while_in_flight == []
    assert await outbox.claim_ids() == [first]


async def test_a_capped_campaign_gets_dates_once_and_blocks_nobody(outbox: Outbox) -> None:
    number = await campaign(outbox, cap=0.1)
    capped = await outbox.put_many(4, campaign_id=number, available_at=ago(60))
    other = await outbox.put()

    first = await outbox.claim()
    dates = [(await outbox.row(message))["available_at"] for message in capped[1:]]
    await outbox.claim()
    again = [(await outbox.row(message))["available_at"] for message in capped[1:]]

    assert sorted(attempt.id for attempt in first.attempts) == [capped[0], other]
    assert [date.timestamp() - first.clock for date in dates] == pytest.approx(
        [10, 20, 30], abs=1e-3
    )
    assert again == dates
    assert first.next_due == pytest.approx(dates[0].timestamp(), abs=1e-3)


async def test_the_cap_holds_over_claims_and_rows_that_come_later(outbox: Outbox) -> None:
    number = await campaign(outbox, cap=2)
    early = await outbox.put_many(3, campaign_id=number)
    await outbox.claim()
    late = await outbox.put_many(2, campaign_id=number)
    await outbox.claim()

    rows = [await outbox.row(message) for message in early[1:] + late]
    dates = [row["available_at"].timestamp() for row in rows]

    assert [later - sooner for sooner, later in pairwise(dates)] == pytest.approx(
        [0.5] * 3, abs=1e-3
    )


async def test_a_claim_touches_at_most_five_hundred_barred_rows(outbox: Outbox) -> None:
    number = await campaign(outbox, "paused")
    await outbox.pool.execute(
        "insert into waemitter.outbox_messages (recipient, message_type, payload, ordering_key, campaign_id)"
        " select '+1415555' || n, 'text', '{}', '', $1 from generate_series(1, 1250) n",
        number,
    )
    other = await outbox.put()
    held = []
    found: list[int] = []
    while not found:
        claimed = await outbox.claim()
        found = [attempt.id for attempt in claimed.attempts]
        held.append(
            await outbox.pool.fetchval(
                "select count(*) from waemitter.outbox_messages where hold is not null"
            )
        )
        if not found:
            assert claimed.next_due == claimed.clock

    assert found == [other]
    assert held == [500, 1000, 1250]


async def test_a_barred_row_that_somebody_has_locked_is_left_for_later(outbox: Outbox) -> None:
    number = await campaign(outbox, "paused")
    message, other = await outbox.put(campaign_id=number), await outbox.put()
    async with outbox.pool.acquire() as connection, connection.transaction():
        await connection.execute(
            "select from waemitter.outbox_messages where id = $1 for update", message
        )
        assert await outbox.claim_ids() == [other]

    assert await outbox.claim_ids() == []
    assert (await state(outbox, message))[1] == f"campaign:{number}"
