"""What each outcome makes of a row, and what a late, stale or repeated one does not."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator

import asyncpg
import pytest

from tests.outbox_rows import GRACE, Outbox, ago, ahead, outbox_at, status
from waemitter.outbox.message import Attempt
from waemitter.outbox.retry import Decision, Outcome
from waemitter.outbox.store import Settlement


@pytest.fixture
async def outbox(dsn: str) -> AsyncIterator[Outbox]:
    async with outbox_at(dsn) as outbox:
        yield outbox


async def test_sent(outbox: Outbox) -> None:
    message = await outbox.put()
    attempt = await outbox.claim_one()

    settled = await outbox.settle(attempt, wamid="wamid.1")

    row = await outbox.row(message)
    assert settled.stale == []
    assert (row["status"], row["available_at"], row["hold"]) == ("sent", None, None)
    assert (row["whatsapp_message_id"], row["dry_run"]) == ("wamid.1", False)
    assert row["created_at"] <= row["claimed_at"] <= row["sent_at"]
    assert await outbox.events(message) == [("sending", "sent")]


async def test_a_dry_run_is_sent_and_says_so(outbox: Outbox) -> None:
    message = await outbox.put()

    await outbox.settle(await outbox.claim_one(), Outcome.DRY_RUN)

    row = await outbox.row(message)
    assert (row["status"], row["dry_run"], row["whatsapp_message_id"]) == ("sent", True, None)


async def test_failed(outbox: Outbox) -> None:
    message = await outbox.put()

    await outbox.settle(
        await outbox.claim_one(), Outcome.FAILED, code=131026, reason="Undeliverable"
    )

    row = await outbox.row(message)
    assert (row["status"], row["available_at"]) == ("failed", None)
    assert (row["error_code"], row["error_message"]) == (131026, "Undeliverable")
    assert row["failed_at"] is not None
    assert row["sent_at"] is None
    assert await outbox.events(message) == [("sending", "failed")]


async def test_a_retry_is_due_after_its_delay_and_keeps_its_count(outbox: Outbox) -> None:
    message = await outbox.put()
    attempt = await outbox.claim_one()

    await outbox.settle(attempt, Outcome.RETRY, delay=120.0, code=131000, reason="Try later")

    row = await outbox.row(message)
    assert (row["status"], row["attempts"]) == ("queued", 1)
    assert (row["error_code"], row["error_message"]) == (131000, "Try later")
    assert row["available_at"] == pytest.approx(ahead(120), abs=ahead(3) - ahead(0))


async def test_a_success_clears_the_error_of_the_attempt_before(outbox: Outbox) -> None:
    message = await outbox.put()
    await outbox.settle(await outbox.claim_one(), Outcome.RETRY, delay=0.0, code=131000, reason="x")

    await outbox.settle(await outbox.claim_one())

    row = await outbox.row(message)
    assert (row["error_code"], row["error_message"], row["attempts"]) == (None, None, 2)


async def test_defer_waits_and_does_not_count(outbox: Outbox) -> None:
    message = await outbox.put()

    await outbox.settle(await outbox.claim_one(), Outcome.DEFER, delay=6.0, code=131056)

    row = await outbox.row(message)
    assert (row["status"], row["attempts"], row["error_code"]) == ("queued", 0, 131056)
    assert row["available_at"] > ahead(3)


async def test_release_leaves_no_trace_of_the_attempt(outbox: Outbox) -> None:
    due = ago(300)
    message = await outbox.put(available_at=due)
    before = dict(await outbox.row(message))

    await outbox.settle(await outbox.claim_one(), Outcome.RELEASE, delay=0.0)

    after = dict(await outbox.row(message))
    assert {name for name in before if before[name] != after[name]} == {"token", "due_at"}
    assert (after["available_at"], after["claimed_at"], after["attempts"]) == (due, None, 0)
    assert await outbox.events(message) == []


async def test_release_of_a_later_attempt_keeps_what_the_earlier_ones_left(outbox: Outbox) -> None:
    message = await outbox.put()
    await outbox.settle(await outbox.claim_one(), Outcome.RETRY, delay=0.0, code=131000, reason="x")
    due = (await outbox.row(message))["available_at"]

    await outbox.settle(await outbox.claim_one(), Outcome.RELEASE, delay=0.0)

    row = await outbox.row(message)
    assert (row["available_at"], row["attempts"], row["error_code"]) == (due, 1, 131000)
    assert row["claimed_at"] is not None


async def test_unconfirmed_keeps_the_token_and_waits_for_the_grace(outbox: Outbox) -> None:
    message = await outbox.put()
    attempt = await outbox.claim_one()

    await outbox.settle(attempt, Outcome.UNCONFIRMED, delay=GRACE, reason="no answer")

    row = await outbox.row(message)
    assert (row["status"], row["token"]) == ("unconfirmed", attempt.token)
    assert ahead(GRACE - 5) < row["available_at"] < ahead(GRACE + 5)


async def test_an_outcome_without_a_delay_does_not_spoil_its_batch(outbox: Outbox) -> None:
    await outbox.put_many(2)
    one, other = (await outbox.claim()).attempts

    settled = await outbox.store.settle(
        [
            Settlement(one.id, one.token, Decision(Outcome.UNCONFIRMED)),
            Settlement(other.id, other.token, Decision(Outcome.SENT, wamid="wamid.2")),
        ]
    )

    assert settled.stale == []
    assert (await outbox.row(other.id))["status"] == "sent"


@pytest.mark.parametrize("outcome", list(Outcome))
async def test_a_stale_token_changes_nothing(outbox: Outbox, outcome: Outcome) -> None:
    message = await outbox.put()
    stale = await outbox.claim_one()
    await outbox.settle(stale, Outcome.RETRY, delay=0.0)
    await outbox.claim_one()
    before = await outbox.row(message)

    settled = await outbox.settle(stale, outcome, delay=1.0, code=1, reason="stale")

    assert settled.stale == [message]
    assert await outbox.row(message) == before


@pytest.mark.parametrize("outcome", list(Outcome))
async def test_the_same_settlement_a_second_time_changes_nothing(
    outbox: Outbox, outcome: Outcome
) -> None:
    message = await outbox.put()
    attempt = await outbox.claim_one()
    await outbox.settle(attempt, outcome, delay=60.0)
    before, events = await outbox.row(message), await outbox.events(message)

    await outbox.settle(attempt, outcome, delay=60.0)

    assert await outbox.row(message) == before
    assert await outbox.events(message) == events


async def lose_its_lease(outbox: Outbox) -> Attempt:
    await outbox.put()
    attempt = await outbox.claim_one()
    await outbox.lose(attempt)
    return attempt


@pytest.mark.parametrize(
    ("outcome", "ends"),
    [
        (Outcome.SENT, "sent"),
        (Outcome.DRY_RUN, "sent"),
        (Outcome.FAILED, "failed"),
        (Outcome.RETRY, "queued"),
        (Outcome.DEFER, "queued"),
        (Outcome.POSTPONE, "queued"),
        (Outcome.RELEASE, "queued"),
    ],
)
async def test_a_late_answer_of_an_unconfirmed_attempt_still_counts(
    outbox: Outbox, outcome: Outcome, ends: str
) -> None:
    attempt = await lose_its_lease(outbox)

    settled = await outbox.settle(attempt, outcome, delay=30.0)

    assert settled.stale == []
    assert (await outbox.row(attempt.id))["status"] == ends


async def test_a_late_success_ends_the_resend_that_is_still_queued(outbox: Outbox) -> None:
    attempt = await lose_its_lease(outbox)
    await outbox.change(attempt.id, status="queued", available_at=ago(1))

    await outbox.settle(attempt)

    assert (await outbox.row(attempt.id))["status"] == "sent"
    assert await outbox.claim_ids() == []


@pytest.mark.parametrize("ended", ["cancelled", "expired", "suppressed"])
async def test_a_late_success_of_a_message_that_was_given_up_is_told(
    outbox: Outbox, ended: str
) -> None:
    attempt = await lose_its_lease(outbox)
    await outbox.change(attempt.id, status=ended, available_at=None)

    await outbox.settle(attempt, wamid="wamid.late")

    row = await outbox.row(attempt.id)
    assert (row["status"], row["whatsapp_message_id"]) == ("sent", "wamid.late")


@pytest.mark.parametrize("word", ["delivered", "read", "sent"])
async def test_after_a_status_a_settle_only_fills_in_what_is_missing(
    outbox: Outbox, word: str
) -> None:
    message = await outbox.put()
    attempt = await outbox.claim_one()
    await outbox.apply(status(word, attempt))
    before = dict(await outbox.row(message))

    await outbox.settle(attempt, wamid="wamid.1")

    assert dict(await outbox.row(message)) == before | {"whatsapp_message_id": "wamid.1"}


async def test_after_a_failed_status_a_settle_keeps_the_failure_and_its_cause(
    outbox: Outbox,
) -> None:
    message = await outbox.put()
    attempt = await outbox.claim_one()
    await outbox.apply(status("failed", attempt, wamid="wamid.1", code=131049, reason="Not now"))

    await outbox.settle(attempt, wamid="wamid.1")

    row = await outbox.row(message)
    assert (row["status"], row["error_code"], row["error_message"]) == ("failed", 131049, "Not now")
    assert row["available_at"] is None


@pytest.mark.parametrize("outcome", [Outcome.RETRY, Outcome.FAILED, Outcome.UNCONFIRMED])
async def test_a_settle_never_lowers_a_status(outbox: Outbox, outcome: Outcome) -> None:
    message = await outbox.put()
    attempt = await outbox.claim_one()
    await outbox.apply(status("delivered", attempt, wamid="wamid.1"))
    before = await outbox.row(message)

    settled = await outbox.settle(attempt, outcome, delay=1.0, code=500, reason="late")

    assert settled.stale == [message]
    assert await outbox.row(message) == before


async def test_one_batch_may_hold_every_outcome(outbox: Outbox) -> None:
    messages = await outbox.put_many(len(Outcome))
    attempts = {attempt.id: attempt for attempt in (await outbox.claim()).attempts}

    await outbox.store.settle(
        [
            Settlement(message, attempts[message].token, Decision(outcome, delay=60.0))
            for message, outcome in zip(messages, Outcome, strict=True)
        ]
    )

    assert [(await outbox.row(message))["status"] for message in messages] == [
        "sent", "sent", "queued", "queued", "queued", "queued", "queued", "failed", "unconfirmed",
    ]  # fmt: skip


async def test_1500_stale_settles_have_no_effect(outbox: Outbox) -> None:
    await outbox.pool.execute(
        "insert into waemitter.outbox_messages (recipient, message_type, payload, ordering_key)"
        " select '+1415555' || n, 'text', '{}', '' from generate_series(1, 1500) n"
    )
    stale = (await outbox.claim(1500)).attempts
    await outbox.settle_all(stale, Outcome.RETRY, delay=0.0)
    await outbox.claim(1500)
    every_row = "select md5(string_agg(o::text, '' order by id)) from waemitter.outbox_messages o"
    before = await outbox.pool.fetchval(every_row)

    settled = await outbox.settle_all(stale)

    assert sorted(settled.stale) == sorted(attempt.id for attempt in stale)
    assert await outbox.pool.fetchval(every_row) == before


async def test_rows_that_are_gone_are_stale(outbox: Outbox) -> None:
    message = await outbox.put()
    attempt = await outbox.claim_one()
    await outbox.pool.execute("delete from waemitter.outbox_messages")

    assert (await outbox.settle(attempt)).stale == [message]


async def test_the_daemons_own_writes_ring_no_bell_and_what_follows_them_does(
    outbox: Outbox, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    await outbox.put_many(2)
    rung: asyncio.Queue[object] = asyncio.Queue()
    for channel in ("waemitter_outbox", "sentinel"):
        await connection.add_listener(channel, lambda *told: rung.put_nowait(told[3]))
    attempts = (await outbox.claim()).attempts
    await outbox.settle(attempts[0])
    await outbox.settle(attempts[1], Outcome.RETRY, delay=0.0)
    await outbox.apply(status("delivered", attempts[0]))
    await outbox.store.sweep()
    await outbox.pool.execute("select pg_notify('sentinel', 'all quiet')")

    async with outbox.pool.acquire() as daemon, daemon.transaction():
        await outbox.store.apply_statuses(daemon, [status("read", attempts[0])])
        await daemon.execute("update waemitter.outbox_messages set status = status")

    async with asyncio.timeout(10):
        assert [await rung.get(), await rung.get()] == ["all quiet", ""]


async def test_batches_in_opposite_orders_do_not_deadlock(outbox: Outbox) -> None:
    await outbox.put_many(60)
    attempts = (await outbox.claim()).attempts
    orders = [attempts, attempts[::-1]]
    orders += [random.Random(seed).sample(attempts, len(attempts)) for seed in (1, 2)]

    async def settle_again_and_again(order: list[Attempt]) -> None:
        for _ in range(15):
            await outbox.settle_all(order)
            await outbox.pool.execute(
                "update waemitter.outbox_messages o set status = 'sending', available_at = clock_timestamp()"
                " from (select id from waemitter.outbox_messages order by id for update) l where l.id = o.id"
            )

    async with asyncio.TaskGroup() as group:
        for order in orders:
            group.create_task(settle_again_and_again(order))


async def test_settles_statuses_claims_and_cancels_of_the_same_lanes_do_not_deadlock(
    outbox: Outbox,
) -> None:
    await outbox.pool.execute(
        "insert into waemitter.outbox_messages (recipient, message_type, payload, ordering_key)"
        " select '+14155550123', 'text', '{}', 'lane ' || n % 20 from generate_series(1, 600) n"
    )
    rng = random.Random(7)
    claimed: list[Attempt] = []

    async def claim_and_settle() -> None:
        for _ in range(40):
            attempts = (await outbox.claim(rng.choice((5, 50)))).attempts
            claimed.extend(attempts)
            rng.shuffle(attempts)
            await outbox.settle_all(attempts, rng.choice((Outcome.SENT, Outcome.RETRY)), delay=0.0)

    async def tell_statuses() -> None:
        for _ in range(40):
            some = rng.sample(claimed, min(len(claimed), 30))
            if some:
                await outbox.apply(*(status("delivered", attempt) for attempt in some))
            await outbox.store.sweep()

    async def cancel() -> None:
        for _ in range(40):
            await outbox.store.cancel([rng.randrange(1, 601) for _ in range(3)])

    async with asyncio.TaskGroup() as group:
        for work in (claim_and_settle, claim_and_settle, tell_statuses, cancel):
            group.create_task(work())
