"""Dead letters of messages: written with the failure, open again with a retry, resolved with the success."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.outbox_rows import Outbox, ago, outbox_at, status
from waemitter.outbox.letters.store import Chosen, LetterStore
from waemitter.outbox.retry import Outcome


@pytest.fixture
async def outbox(dsn: str) -> AsyncIterator[Outbox]:
    async with outbox_at(dsn) as outbox:
        yield outbox


async def letters(outbox: Outbox) -> list[dict[str, Any]]:
    return [
        dict(record)
        for record in await outbox.pool.fetch("select * from waemitter.dead_letters order by id")
    ]


async def fail(outbox: Outbox, code: int = 131009) -> None:
    await outbox.settle(
        await outbox.claim_one(), Outcome.FAILED, code=code, reason="No", error_class="FAIL"
    )


async def test_a_message_that_fails_for_good_leaves_a_letter_with_all_it_takes(
    outbox: Outbox,
) -> None:
    message = await outbox.put(correlation_id="order-17")

    await fail(outbox)

    (letter,) = await letters(outbox)
    assert (letter["direction"], letter["stage"], letter["message_id"]) == (
        "outbound",
        "send",
        message,
    )
    assert (letter["error_class"], letter["error_code"], letter["error"]) == ("FAIL", 131009, "No")
    assert (letter["attempts"], letter["resolution_status"]) == (1, "abandoned")
    assert (letter["channel"], letter["contact"]) == ("default", "+14155550123")
    assert letter["payload"] == '{"text": {"body": "Hello"}}'
    assert (letter["correlation_id"], letter["next_retry_at"]) == ("order-17", None)


async def test_a_row_that_cannot_become_a_request_fails_in_a_stage_of_its_own(
    outbox: Outbox,
) -> None:
    await outbox.put()
    await outbox.settle(
        await outbox.claim_one(), Outcome.FAILED, reason="payload.text: …", error_class="PAYLOAD"
    )
    (letter,) = await letters(outbox)
    assert (letter["stage"], letter["error_code"]) == ("payload", None)


async def test_only_failures_leave_letters(outbox: Outbox) -> None:
    sent, expired, cancelled, retried = await outbox.put_many(4)
    await outbox.change(expired, expires_at=ago(1))
    await outbox.store.cancel([cancelled])
    attempts = {attempt.id: attempt for attempt in (await outbox.claim()).attempts}
    await outbox.settle(attempts[sent])
    await outbox.settle(attempts[retried], Outcome.RETRY, delay=60.0)
    assert (await outbox.row(expired))["status"] == "expired"
    assert await letters(outbox) == []


async def test_a_stale_failure_buries_nothing(outbox: Outbox) -> None:
    await outbox.put()
    attempt = await outbox.claim_one()
    await outbox.settle(attempt)
    settled = await outbox.settle(attempt, Outcome.FAILED, error_class="FAIL")
    assert settled.stale == [attempt.id]
    assert await letters(outbox) == []


async def test_a_letter_is_open_while_its_message_is_tried_again_and_resolved_when_it_was_sent(
    outbox: Outbox,
) -> None:
    message = await outbox.put()
    await fail(outbox)

    assert await outbox.store.retry([message]) == [message]
    (pending,) = await letters(outbox)
    await outbox.settle(await outbox.claim_one())
    (resolved,) = await letters(outbox)

    assert (pending["resolution_status"], pending["retry_count"]) == ("pending", 1)
    assert (resolved["resolution_status"], resolved["id"]) == ("resolved", pending["id"])
    assert resolved["resolved_at"] is not None


async def test_a_message_that_fails_again_has_its_one_letter_again(outbox: Outbox) -> None:
    message = await outbox.put()
    await fail(outbox)
    await outbox.store.retry([message])

    await fail(outbox, code=131026)

    (letter,) = await letters(outbox)
    assert (letter["resolution_status"], letter["error_code"]) == ("abandoned", 131026)


async def test_a_failure_that_was_delivered_after_all_is_resolved(outbox: Outbox) -> None:
    await outbox.put()
    attempt = await outbox.claim_one()
    await outbox.settle(attempt, Outcome.FAILED, code=131000, error_class="RETRY")

    await outbox.apply(status("delivered", attempt))

    (letter,) = await letters(outbox)
    assert letter["resolution_status"] == "resolved"


async def test_the_sweep_closes_the_letter_of_a_retried_message_that_was_cancelled(
    outbox: Outbox,
) -> None:
    message = await outbox.put()
    await fail(outbox)
    await outbox.store.retry([message])
    await outbox.store.sweep()
    (waiting,) = await letters(outbox)
    await outbox.store.cancel([message])

    await outbox.store.sweep()

    (letter,) = await letters(outbox)
    assert (waiting["resolution_status"], letter["resolution_status"]) == ("pending", "discarded")


async def test_rows_without_a_channel_and_of_a_dead_template_leave_letters_too(
    outbox: Outbox,
) -> None:
    stray = await outbox.put(channel="nowhere")
    await outbox.store.sweep()
    dead = await outbox.put(
        message_type="template",
        payload='{"template": {"name": "gone", "language": {"code": "en"}}}',
    )
    await outbox.pool.execute("select waemitter.fail_template('default', 'gone')")

    found = {letter["message_id"]: letter["error_class"] for letter in await letters(outbox)}
    assert found == {stray: "CHANNEL", dead: "FAIL_TEMPLATE"}


async def test_an_operator_retries_and_discards_letters_of_both_directions(outbox: Outbox) -> None:
    store = LetterStore(outbox.pool)
    message = await outbox.put()
    await fail(outbox)
    await outbox.pool.execute(
        "insert into waemitter.dead_letters (direction, stage, payload, error, resolution_status, retry_count)"
        " values ('inbound', 'split', '{}', 'it broke', 'abandoned', 3)"
    )
    (inbound,) = await store.list(Chosen(direction="inbound"), limit=10)
    (outbound,) = await store.list(Chosen(direction="outbound", error_code=131009), limit=10)

    assert await store.retry([inbound["id"], outbound["id"], 999]) == [
        outbound["id"],
        inbound["id"],
    ]

    again = await store.get(inbound["id"])
    assert again is not None
    assert (again["resolution_status"], again["retry_count"]) == ("pending", 0)
    assert again["next_retry_at"] is not None
    assert (await outbox.row(message))["status"] == "queued"
    assert await store.discard([inbound["id"]]) == [inbound["id"]]
    assert await store.discard([inbound["id"]]) == []
    piles = {(pile.direction, pile.status): pile.letters for pile in await store.piles()}
    assert piles == {("outbound", "pending"): 1, ("inbound", "discarded"): 1}


async def test_an_application_reopens_the_letter_of_its_own_message_alone(outbox: Outbox) -> None:
    others = await outbox.put()
    await fail(outbox)
    async with outbox.pool.acquire() as connection:
        await connection.execute("set role waemitter_app")
        own = await connection.fetchval("select waemitter.send_text('+14155550123', 'Hello')")
        await connection.execute("reset role")
        await fail(outbox)
        await connection.execute("set role waemitter_app")
        assert await connection.fetchval("select waemitter.retry_message($1)", own)
        assert not await connection.fetchval("select waemitter.retry_message($1)", others)
        seen = await connection.fetch("select message_id from waemitter.dead_letters")
        await connection.execute("reset role")

    states = {letter["message_id"]: letter["resolution_status"] for letter in await letters(outbox)}
    assert [record["message_id"] for record in seen] == [own]
    assert states == {others: "abandoned", own: "pending"}
