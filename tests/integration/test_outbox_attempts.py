"""Several attempts of one message: whatever is heard of any of them counts, and two that arrived are owned up to."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.outbox_rows import Outbox, ago, outbox_at, status
from waemitter.outbox.message import Attempt
from waemitter.outbox.retry import Outcome
from waemitter.outbox.store import Applied


@pytest.fixture
async def outbox(dsn: str) -> AsyncIterator[Outbox]:
    async with outbox_at(dsn) as outbox:
        yield outbox


async def resent(outbox: Outbox) -> tuple[Attempt, Attempt]:
    """The first attempt's outcome was never known; the second is under way."""
    message = await outbox.put()
    first = await outbox.claim_one()
    await outbox.settle(first, Outcome.UNCONFIRMED, delay=60.0)
    await outbox.change(message, status="queued", available_at=ago(1))
    return first, await outbox.claim_one()


async def wamids(outbox: Outbox) -> dict[int, str | None]:
    """What is kept of attempts beside the row, by their tokens."""
    rows = await outbox.pool.fetch(
        "select token, whatsapp_message_id from waemitter.outbox_attempts"
    )
    return {row["token"]: row["whatsapp_message_id"] for row in rows}


async def test_a_late_answer_of_the_first_attempt_ends_the_resend_that_waits(
    outbox: Outbox,
) -> None:
    first, second = await resent(outbox)
    await outbox.settle(second, Outcome.RETRY, delay=0.0)

    applied = await outbox.late(first)

    row = await outbox.row(first.id)
    assert applied.counts == {("sent", "applied"): 1}
    assert (row["status"], row["whatsapp_message_id"]) == ("sent", f"wamid.{first.id}.1")
    assert await outbox.claim_ids() == []
    assert await wamids(outbox) == {first.token: f"wamid.{first.id}.1"}
    assert ("queued", "sent") in await outbox.events(first.id)


async def test_a_late_answer_frees_the_lane(outbox: Outbox) -> None:
    message = await outbox.put(ordering_key="lane")
    first = await outbox.claim_one()
    await outbox.settle(first, Outcome.UNCONFIRMED, delay=60.0)
    await outbox.change(message, status="queued", available_at=ago(1))
    second = await outbox.claim_one()
    follower = await outbox.put(ordering_key="lane")
    await outbox.claim_ids()
    await outbox.settle(second, Outcome.RETRY, delay=60.0)

    assert (await outbox.late(first)).freed == 1

    assert await outbox.claim_ids() == [follower]


async def test_two_answers_that_both_say_accepted_are_a_duplicate(outbox: Outbox) -> None:
    first, second = await resent(outbox)
    await outbox.settle(second)

    assert (await outbox.late(first)).doubled == 1

    assert (await outbox.row(first.id))["whatsapp_message_id"] == f"wamid.{first.id}.2"
    assert await wamids(outbox) == {first.token: f"wamid.{first.id}.1"}
    assert (await outbox.late(first)).doubled == 0


@pytest.mark.parametrize("word", ["sent", "delivered", "read"])
async def test_a_status_of_the_first_attempt_after_the_second_was_accepted_is_a_duplicate(
    outbox: Outbox, word: str
) -> None:
    first, second = await resent(outbox)
    await outbox.settle(second, wamid="wamid.second")

    applied = await outbox.apply(status(word, first, wamid="wamid.first"))
    again = await outbox.apply(
        status("read", first, wamid="wamid.first"), status("read", wamid="wamid.second")
    )

    assert (applied.doubled, again.doubled) == (1, 0)
    assert await wamids(outbox) == {first.token: "wamid.first"}
    assert ("sent", "sent") in await outbox.events(first.id)


async def test_so_is_the_second_one_accepted_after_the_first_ones_status(outbox: Outbox) -> None:
    first, second = await resent(outbox)
    heard = await outbox.apply(status("sent", first, wamid="wamid.first"))

    answered = await outbox.late(second)  # the row is sent already: the settle is stale
    again = await outbox.apply(status("delivered", second, wamid=f"wamid.{second.id}.2"))

    assert (heard.doubled, answered.doubled, again.doubled) == (0, 1, 0)
    assert (await outbox.row(first.id))["whatsapp_message_id"] == "wamid.first"
    assert await wamids(outbox) == {
        first.token: "wamid.first",
        second.token: f"wamid.{second.id}.2",
    }


async def test_so_are_two_statuses_in_one_webhook(outbox: Outbox) -> None:
    first, second = await resent(outbox)

    applied = await outbox.apply(
        status("sent", second, wamid="wamid.second"),
        status("sent", first, wamid="wamid.first"),
        status("delivered", second, wamid="wamid.second"),
    )

    assert applied.doubled == 1
    assert (await outbox.row(first.id))["whatsapp_message_id"] == "wamid.first"
    assert await wamids(outbox) == {first.token: "wamid.first", second.token: "wamid.second"}


async def test_a_failure_of_the_other_attempt_is_no_duplicate(outbox: Outbox) -> None:
    first, second = await resent(outbox)
    await outbox.settle(second)

    applied = await outbox.apply(status("failed", first, wamid="wamid.first", code=131026))

    assert applied.doubled == 0
    assert (await outbox.row(first.id))["status"] == "sent"


async def test_a_status_before_its_own_answer_is_no_duplicate(outbox: Outbox) -> None:
    await outbox.put()
    attempt = await outbox.claim_one()

    applied = await outbox.apply(status("sent", attempt, wamid=f"wamid.{attempt.id}.1"))
    answered = await outbox.late(attempt)

    assert (applied.doubled, answered.doubled) == (0, 0)
    assert await wamids(outbox) == {}


async def test_an_operators_retry_of_a_failed_message_is_no_duplicate(outbox: Outbox) -> None:
    await outbox.put()
    first = await outbox.claim_one()
    await outbox.settle(first, wamid="wamid.first")
    await outbox.apply(status("failed", first, wamid="wamid.first", code=131049))
    await outbox.store.retry([first.id])
    second = await outbox.claim_one()

    applied = await outbox.apply(status("sent", second, wamid="wamid.second"))

    assert applied.doubled == 0
    assert (await outbox.row(first.id))["whatsapp_message_id"] == "wamid.second"


async def test_an_unknown_outcome_that_failed_is_told_apart(outbox: Outbox) -> None:
    await outbox.put_many(2)
    good, bad = (await outbox.claim()).attempts
    await outbox.settle_all([good, bad], Outcome.UNCONFIRMED, delay=60.0)

    applied = await outbox.apply(
        status("sent", good, wamid="wamid.good"), status("failed", bad, wamid="wamid.bad", code=1)
    )

    assert list(applied.resolutions()) == [("confirmed", 1), ("failed", 1)]
    assert list(Applied({}, 0, 0, 2, 0).resolutions()) == [("duplicate", 2)]
