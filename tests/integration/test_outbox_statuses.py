"""Meta's statuses in whatever order, however often, by whichever handle: the row ends at the top of the ladder."""

from __future__ import annotations

import datetime
from collections.abc import AsyncIterator, Sequence
from typing import Final, NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.outbox_rows import Outbox, ago, now, outbox_at, status
from waemitter.db.schema import Connection
from waemitter.outbox.message import Attempt
from waemitter.outbox.retry import Outcome
from waemitter.outbox.store import Applied

LADDER: Final = ("sent", "failed", "delivered", "read")
SENT_AT: Final = datetime.datetime(2026, 3, 1, 12, 0, 0, tzinfo=datetime.UTC)


@pytest.fixture
async def outbox(dsn: str) -> AsyncIterator[Outbox]:
    async with outbox_at(dsn) as outbox:
        yield outbox


async def sent(outbox: Outbox, **columns: object) -> Attempt:
    await outbox.put(**columns)
    attempt = await outbox.claim_one()
    await outbox.settle(attempt)
    return attempt


def words() -> st.SearchStrategy[list[str]]:
    return st.lists(st.sampled_from(LADDER), min_size=1, max_size=7)


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],  # a new row is enough
)
@given(
    told=words(),
    one_by_one=st.booleans(),
    settled=st.sampled_from(["before", "after", "in between"]),
    by_wamid=st.booleans(),
)
async def test_any_order_with_any_repetition_ends_at_the_top_of_the_ladder(
    outbox: Outbox, *, told: list[str], one_by_one: bool, settled: str, by_wamid: bool
) -> None:
    message = await outbox.put()
    attempt = await outbox.claim_one()
    wamid = f"wamid.{message}"
    echo = None if by_wamid and settled == "before" else attempt
    updates = [
        status(
            word,
            echo,
            wamid=wamid,
            at=SENT_AT + datetime.timedelta(seconds=LADDER.index(word)),
            code=131049 if word == "failed" else None,
        )
        for word in told
    ]
    batches = [[update] for update in updates] if one_by_one else [updates]
    places = {"before": 0, "after": len(batches), "in between": len(batches) // 2}

    for place in range(len(batches) + 1):
        if place == places[settled]:
            await outbox.settle(attempt, wamid=wamid)
        if place < len(batches):
            await outbox.apply(*batches[place])

    row = await outbox.row(message)
    highest = max([*told, "sent"], key=LADDER.index)
    assert row["status"] == highest
    assert row["error_code"] == (131049 if highest == "failed" else None)
    assert (row["failed_at"] is not None) == (highest == "failed")
    assert (row["delivered_at"] is not None) == (highest in {"delivered", "read"})
    assert (row["read_at"] is not None) == (highest == "read")
    assert (row["whatsapp_message_id"], row["available_at"], row["hold"]) == (wamid, None, None)
    journey = [row["sent_at"], row["delivered_at"], row["read_at"]]
    known = [moment for moment in journey if moment is not None]
    assert known == sorted(known)


async def test_a_played_voice_message_was_read(outbox: Outbox) -> None:
    attempt = await sent(outbox)

    await outbox.apply(status("played", attempt))

    assert (await outbox.row(attempt.id))["status"] == "read"


async def test_times_are_metas_unless_they_would_go_backwards(outbox: Outbox) -> None:
    attempt = await sent(outbox)
    delivered, read = now() + datetime.timedelta(seconds=2), now() + datetime.timedelta(seconds=9)
    whole_second = ago(30)
    other = await sent(outbox)

    await outbox.apply(status("delivered", attempt, at=delivered), status("read", attempt, at=read))
    await outbox.apply(status("delivered", other, at=whole_second))

    row, late = await outbox.row(attempt.id), await outbox.row(other.id)
    assert (row["delivered_at"], row["read_at"]) == (delivered, read)
    assert late["sent_at"] < late["delivered_at"] < late["sent_at"] + datetime.timedelta(seconds=1)


async def test_it_is_known_by_its_echo_before_it_was_settled(outbox: Outbox) -> None:
    await outbox.put()
    attempt = await outbox.claim_one()

    applied = await outbox.apply(status("sent", attempt, wamid="wamid.1"))

    row = await outbox.row(attempt.id)
    assert applied.counts == {("sent", "applied"): 1}
    assert (row["status"], row["whatsapp_message_id"]) == ("sent", "wamid.1")
    assert row["available_at"] is None


async def test_it_is_known_by_its_wamid_without_an_echo(outbox: Outbox) -> None:
    attempt = await sent(outbox)
    wamid = (await outbox.row(attempt.id))["whatsapp_message_id"]

    applied = await outbox.apply(status("delivered", wamid=wamid))

    assert applied.counts == {("delivered", "applied"): 1}
    assert (await outbox.row(attempt.id))["status"] == "delivered"


async def test_unconfirmed_is_resolved_by_the_first_word_of_it(outbox: Outbox) -> None:
    await outbox.put()
    attempt = await outbox.claim_one()
    await outbox.settle(attempt, Outcome.UNCONFIRMED, delay=60.0)

    applied = await outbox.apply(status("sent", attempt), status("delivered", attempt))

    assert applied.resolved == 1
    assert (await outbox.row(attempt.id))["status"] == "delivered"
    assert ("unconfirmed", "delivered") in await outbox.events(attempt.id)


async def test_held_as_unconfirmed_is_resolved_too(outbox: Outbox) -> None:
    await outbox.put()
    attempt = await outbox.claim_one()
    await outbox.lose(attempt)
    await outbox.change(attempt.id, available_at=ago(1))
    assert (await outbox.claim()).held == 1

    await outbox.apply(status("delivered", attempt))

    row = await outbox.row(attempt.id)
    assert (row["status"], row["hold"], row["available_at"]) == ("delivered", None, None)


async def retried(outbox: Outbox) -> tuple[Attempt, Attempt]:
    """The first attempt's outcome was never known; the second is under way."""
    message = await outbox.put()
    first = await outbox.claim_one()
    await outbox.settle(first, Outcome.UNCONFIRMED, delay=60.0)
    await outbox.change(message, status="queued", available_at=ago(1))
    return first, await outbox.claim_one()


async def test_a_failure_of_an_older_attempt_never_fails_the_row(outbox: Outbox) -> None:
    first, second = await retried(outbox)

    applied = await outbox.apply(status("failed", first, wamid="wamid.first", code=131026))

    row = await outbox.row(second.id)
    assert applied.counts == {("failed", "stale"): 1}
    assert (row["status"], row["error_code"]) == ("sending", None)


@pytest.mark.parametrize("word", ["sent", "delivered", "read"])
async def test_a_success_of_an_older_attempt_ends_the_resend(outbox: Outbox, word: str) -> None:
    first, second = await retried(outbox)
    await outbox.settle(second, Outcome.RETRY, delay=0.0)

    await outbox.apply(status(word, first, wamid="wamid.first"))

    row = await outbox.row(first.id)
    assert (row["status"], row["whatsapp_message_id"]) == (word, "wamid.first")
    assert await outbox.claim_ids() == []


async def test_once_an_older_attempt_was_heard_of_its_wamid_is_enough(outbox: Outbox) -> None:
    first, second = await retried(outbox)
    await outbox.settle(second, wamid="wamid.second")
    await outbox.apply(status("sent", first, wamid="wamid.first"))

    applied = await outbox.apply(status("delivered", wamid="wamid.first"))

    assert applied.counts == {("delivered", "applied"): 1}
    assert (await outbox.row(first.id))["status"] == "delivered"


async def test_a_repeated_failure_does_not_end_the_operators_retry(outbox: Outbox) -> None:
    attempt = await sent(outbox)
    failure = status("failed", attempt, wamid="wamid.1", code=131049)
    await outbox.apply(failure)
    assert await outbox.store.retry([attempt.id]) == [attempt.id]

    await outbox.apply(failure, status("sent", attempt, wamid="wamid.1"))
    await outbox.apply(failure._replace(message_id=None, token=None))

    assert (await outbox.row(attempt.id))["status"] == "queued"
    assert (await outbox.claim_one()).id == attempt.id


async def test_a_late_delivery_of_the_failed_attempt_does_end_the_operators_retry(
    outbox: Outbox,
) -> None:
    attempt = await sent(outbox)
    await outbox.apply(status("failed", attempt, wamid="wamid.1", code=131049))
    await outbox.store.retry([attempt.id])

    await outbox.apply(status("delivered", attempt, wamid="wamid.1"))

    assert (await outbox.row(attempt.id))["status"] == "delivered"
    assert await outbox.claim_ids() == []


async def test_a_status_of_no_message_here_is_parked(outbox: Outbox) -> None:
    applied = await outbox.apply(status("sent", wamid="wamid.of.nobody"), status("sent"))

    assert applied.counts == {("sent", "parked"): 1, ("sent", "unknown"): 1}
    assert (applied.resolved, applied.freed) == (0, 0)


async def test_the_echo_of_another_databases_copy_does_not_match(outbox: Outbox) -> None:
    attempt = await sent(outbox)
    stranger = status("read", attempt, wamid="wamid.theirs")._replace(token=attempt.token ^ 1)

    applied = await outbox.apply(stranger)

    assert applied.counts == {("read", "parked"): 1}
    assert (await outbox.row(attempt.id))["status"] == "sent"


async def test_nor_does_it_match_an_older_attempt(outbox: Outbox) -> None:
    first, second = await retried(outbox)
    stranger = status("read", first, wamid="wamid.theirs")._replace(token=first.token ^ 1)

    applied = await outbox.apply(stranger)

    assert applied.counts == {("read", "parked"): 1}
    assert (await outbox.row(second.id))["status"] == "sending"


async def test_repeated_statuses_are_stale_and_change_nothing(outbox: Outbox) -> None:
    attempt = await sent(outbox)
    await outbox.apply(status("delivered", attempt))
    before = await outbox.row(attempt.id)

    applied = await outbox.apply(status("delivered", attempt), status("sent", attempt))

    assert applied.counts == {("delivered", "stale"): 1, ("sent", "stale"): 1}
    assert await outbox.row(attempt.id) == before


async def test_a_word_unknown_here_changes_nothing(outbox: Outbox) -> None:
    attempt = await sent(outbox)
    before = await outbox.row(attempt.id)

    applied = await outbox.apply(status("warning", attempt))

    assert applied.counts == {("warning", "stale"): 1}
    assert await outbox.row(attempt.id) == before


@pytest.mark.parametrize("word", ["sent", "delivered"])
async def test_the_price_is_stored_with_whichever_status_brings_it(
    outbox: Outbox, word: str
) -> None:
    attempt = await sent(outbox)

    await outbox.apply(status(word, attempt, category="utility", billable=False))
    await outbox.apply(status("read", attempt, category="marketing", billable=True))

    row = await outbox.row(attempt.id)
    assert (row["pricing_category"], row["billable"]) == ("utility", False)


async def test_statuses_of_many_messages_are_applied_at_once(outbox: Outbox) -> None:
    await outbox.put_many(20)
    attempts = (await outbox.claim()).attempts
    await outbox.settle_all(attempts)

    applied = await outbox.apply(
        *(status("delivered", attempt) for attempt in reversed(attempts)),
        *(status("read", attempt) for attempt in attempts[:5]),
        status("read", wamid="wamid.unknown"),
    )

    assert applied.counts == {
        ("delivered", "applied"): 20,
        ("read", "applied"): 5,
        ("read", "parked"): 1,
    }


async def test_without_statuses_nothing_is_applied(outbox: Outbox) -> None:
    applied = await outbox.apply()

    assert applied == Applied({}, 0, 0, 0, 0)


class Receipts(NamedTuple):
    """Updates of the outbox so far, by this connection."""

    all: int
    in_place: int


async def updates(connection: Connection) -> Receipts:
    record = await connection.fetchrow(
        "select n_tup_upd, n_tup_hot_upd from pg_stat_xact_user_tables"
        " where relid = 'waemitter.outbox_messages'::regclass"
    )
    return Receipts(*record) if record else Receipts(0, 0)


async def receive(outbox: Outbox, attempts: Sequence[Attempt], word: str) -> Receipts:
    """How many updates a status of each takes."""
    async with outbox.pool.acquire() as connection, connection.transaction():
        before = await updates(connection)
        told = [status(word, attempt) for attempt in attempts]
        await outbox.store.apply_statuses(connection, told)
        after = await updates(connection)
    return Receipts(after.all - before.all, after.in_place - before.in_place)


async def test_receipts_of_a_settled_row_are_written_in_place(outbox: Outbox) -> None:
    attempt = await sent(outbox)

    assert await receive(outbox, [attempt], "delivered") == Receipts(all=1, in_place=1)
    assert await receive(outbox, [attempt], "read") == Receipts(all=1, in_place=1)


async def test_receipts_of_five_hundred_rows_nearly_all_stay_in_their_pages(
    outbox: Outbox,
) -> None:
    await outbox.pool.execute(
        "insert into waemitter.outbox_messages (recipient, message_type, payload, ordering_key)"
        " select '+1415555' || n, 'text', '{\"text\": {\"body\": \"Hello\"}}', '' from generate_series(1, 500) n"
    )
    attempts = (await outbox.claim(500)).attempts
    await outbox.settle_all(attempts)

    delivered = await receive(outbox, attempts, "delivered")
    read = await receive(outbox, attempts, "read")

    assert (delivered.all, read.all) == (500, 500)
    assert delivered.in_place > 350  # the claim and the settle have filled some pages
    assert read.in_place > 400
