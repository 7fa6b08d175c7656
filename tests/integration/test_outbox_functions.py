"""What applications call in their own transactions: send_*, cancel_message, retry_message, and the two views."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from tests.outbox_rows import Outbox, ago, ahead, outbox_at, status
from tests.support import eventually
from waemitter.db.schema import Connection
from waemitter.outbox.retry import Outcome

BODY = [{"type": "text", "text": "17"}, {"type": "text", "text": "Ada"}]


@pytest.fixture
async def outbox(dsn: str) -> AsyncIterator[Outbox]:
    async with outbox_at(dsn) as outbox:
        yield outbox


async def payload(outbox: Outbox, message: int) -> Any:
    return json.loads((await outbox.row(message))["payload"])


async def send_template(outbox: Outbox, parameters: object) -> Any:
    message = await outbox.pool.fetchval(
        "select waemitter.send_template('+14155550123', 'order_shipped', 'en_US', $1::jsonb)",
        json.dumps(parameters),
    )
    assert (await outbox.row(message))["message_type"] == "template"
    return (await payload(outbox, message))["template"]


async def test_send_text_is_a_row_due_at_once(outbox: Outbox) -> None:
    message = await outbox.pool.fetchval(
        "select waemitter.send_text('+14155550123', 'Your order is on its way')"
    )

    row = await outbox.row(message)
    assert (row["recipient"], row["message_type"]) == ("+14155550123", "text")
    assert (row["channel"], row["status"], row["priority"]) == ("default", "queued", 0)
    assert await payload(outbox, message) == {"text": {"body": "Your order is on its way"}}
    assert await outbox.claim_ids() == [message]


async def test_send_text_takes_everything_by_name(outbox: Outbox) -> None:
    due, until = ahead(60), ahead(120)
    message = await outbox.pool.fetchval(
        """
        select waemitter.send_text('+14155550123', 'https://example.com', channel => 'shop', idempotency_key => 'k',
          available_at => $1, expires_at => $2, priority => 7, ordering_key => 'Ada', correlation_id => 'c',
          preview_url => true)
        """,
        due,
        until,
    )

    row = await outbox.row(message)
    assert (row["channel"], row["idempotency_key"], row["correlation_id"]) == ("shop", "k", "c")
    assert (row["available_at"], row["expires_at"]) == (due, until)
    assert (row["priority"], row["ordering_key"], row["lane"]) == (7, "Ada", "Ada")
    assert (await payload(outbox, message))["text"]["preview_url"] is True


async def test_a_template_without_parameters_has_no_components(outbox: Outbox) -> None:
    nothing = [
        await send_template(outbox, []),
        await send_template(outbox, {}),
        await send_template(outbox, None),
    ]
    message = await outbox.pool.fetchval(
        "select waemitter.send_template('+14155550123', 'order_shipped', 'en_US', null)"
    )
    nothing.append((await payload(outbox, message))["template"])

    for template in nothing:
        assert template == {
            "name": "order_shipped",
            "language": {"code": "en_US"},
            "components": [],
        }


async def test_positional_parameters_fill_the_body_in_their_order(outbox: Outbox) -> None:
    template = await send_template(outbox, ["17", "Ada"])

    assert template["components"] == [{"type": "body", "parameters": BODY}]


async def test_numbers_are_sent_as_text(outbox: Outbox) -> None:
    template = await send_template(outbox, [17, "Ada"])

    assert template["components"] == [{"type": "body", "parameters": BODY}]


async def test_named_parameters_keep_their_names(outbox: Outbox) -> None:
    template = await send_template(outbox, {"order": 17})

    assert template["components"] == [
        {
            "type": "body",
            "parameters": [{"type": "text", "parameter_name": "order", "text": "17"}],
        }
    ]


async def test_components_are_metas_own(outbox: Outbox) -> None:
    components = [
        {"type": "header", "parameters": [{"type": "image", "image": {"id": "1"}}]},
        {"type": "button", "sub_type": "url", "index": "0", "parameters": BODY[:1]},
    ]

    assert (await send_template(outbox, components))["components"] == components


async def test_a_known_idempotency_key_returns_the_first_row(outbox: Outbox) -> None:
    send = "select waemitter.send_text('+14155550123', $1, idempotency_key => 'order-17-shipped')"

    first = await outbox.pool.fetchval(send, "Your order is on its way")
    second = await outbox.pool.fetchval(send, "Something else")

    assert first == second
    assert await payload(outbox, first) == {"text": {"body": "Your order is on its way"}}
    assert await outbox.claim_ids() == [first]


async def test_two_transactions_with_the_same_key_agree_on_one_row(outbox: Outbox) -> None:
    send = "select waemitter.send_text('+14155550123', 'Hello', idempotency_key => 'k')"
    async with outbox.pool.acquire() as one, outbox.pool.acquire() as other:
        transaction = one.transaction()
        await transaction.start()
        first = await one.fetchval(send)
        second = asyncio.ensure_future(other.fetchval(send))
        await waits(outbox, other.get_server_pid())
        await transaction.commit()

        assert await second == first


async def test_a_key_taken_back_is_free_for_the_one_that_waits(outbox: Outbox) -> None:
    send = "select waemitter.send_text('+14155550123', 'Hello', idempotency_key => 'k')"
    async with outbox.pool.acquire() as one, outbox.pool.acquire() as other:
        transaction = one.transaction()
        await transaction.start()
        first = await one.fetchval(send)
        second = asyncio.ensure_future(other.fetchval(send))
        await waits(outbox, other.get_server_pid())
        await transaction.rollback()

        assert await second > first
    assert await outbox.claim_ids() == [await second]


async def waits(outbox: Outbox, backend: int) -> None:
    """Return when that backend waits for a lock."""
    waiting = "select wait_event_type = 'Lock' from pg_stat_activity where pid = $1"
    await eventually(lambda: outbox.pool.fetchval(waiting, backend))


async def test_a_message_is_enqueued_with_the_callers_transaction_or_not_at_all(
    outbox: Outbox,
) -> None:
    async with outbox.pool.acquire() as application:
        transaction = application.transaction()
        await transaction.start()
        await application.execute("select waemitter.send_text('+14155550123', 'Hello')")
        assert await outbox.claim_ids() == []
        await transaction.rollback()

    assert await outbox.claim_ids() == []


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("select waemitter.send_text('', 'Hello')", "recipient"),
        ("select waemitter.send_text(null, 'Hello')", "recipient"),
        ("select waemitter.send_text(repeat('9', 257), 'Hello')", "recipient"),
        ("select waemitter.send_message('+1415', '', '{}')", "message_type"),
        ("select waemitter.send_message('+1415', 'text', null)", "payload"),
        ("select waemitter.send_text('+1415', 'Hello', priority => 40000)", "smallint"),
        ("insert into waemitter.message_queue (recipient, payload, status) values ('+1', '{}', 'sent')",
         "a message starts as pending, not as sent"),
    ],
)  # fmt: skip
async def test_gross_nonsense_is_refused_in_words(
    outbox: Outbox, statement: str, message: str
) -> None:
    with pytest.raises(asyncpg.PostgresError, match=message):
        await outbox.pool.execute(statement)


async def test_what_is_no_number_is_not_refused_at_the_insert(outbox: Outbox) -> None:
    assert await outbox.put(recipient="not a number")


async def cancel(connection: Connection, message: int) -> bool:
    effect: bool = await connection.fetchval("select waemitter.cancel_message($1)", message)
    return effect


async def test_cancel_takes_effect_until_the_message_is_claimed(outbox: Outbox) -> None:
    early, late = await outbox.put(), await outbox.put(priority=1)
    await outbox.claim(1)
    async with outbox.pool.acquire() as connection:
        assert await cancel(connection, early)
        assert not await cancel(connection, late)
        assert not await cancel(connection, early)
        assert not await cancel(connection, 10**9)

    row = await outbox.row(early)
    assert (row["status"], row["available_at"]) == ("cancelled", None)
    assert await outbox.events(early) == [("queued", "cancelled")]
    assert await outbox.claim_ids() == []


async def test_a_cancel_that_waits_for_a_claim_comes_too_late(outbox: Outbox) -> None:
    message = await outbox.put()
    async with outbox.pool.acquire() as claimer, outbox.pool.acquire() as application:
        transaction = claimer.transaction()
        await transaction.start()
        await claimer.execute(
            "select waemitter.claim_messages('default', 1, '15 s', '0.2 s', '60 s', 'retry', 5)"
        )
        effect = asyncio.ensure_future(cancel(application, message))
        await waits(outbox, application.get_server_pid())
        await transaction.commit()

        assert not await effect
    assert (await outbox.row(message))["status"] == "sending"


async def test_a_scheduled_row_and_a_waiting_retry_can_be_cancelled(outbox: Outbox) -> None:
    retry = await outbox.put()
    await outbox.settle(await outbox.claim_one(), Outcome.RETRY, delay=60.0)
    scheduled = await outbox.put(available_at=ahead(60))

    assert await outbox.store.cancel([scheduled, retry, 10**9]) == [retry, scheduled]


async def test_an_unconfirmed_message_can_be_cancelled_once_it_is_held(outbox: Outbox) -> None:
    message = await outbox.put()
    await outbox.lose(await outbox.claim_one())
    assert await outbox.store.cancel([message]) == []
    await outbox.change(message, available_at=ago(1))
    await outbox.claim(policy="hold")

    assert await outbox.store.cancel([message]) == [message]
    row = await outbox.row(message)
    assert (row["status"], row["hold"], row["available_at"]) == ("cancelled", None, None)


async def test_retry_queues_an_ended_message_with_a_fresh_budget(outbox: Outbox) -> None:
    message = await outbox.put(expires_at=ahead(60))
    await outbox.settle(
        await outbox.claim_one(), Outcome.FAILED, code=131026, reason="Undeliverable"
    )
    await outbox.change(message, expires_at=ago(1))

    assert await outbox.store.retry([message]) == [message]

    row = await outbox.row(message)
    assert (row["status"], row["attempts"], row["error_code"]) == ("queued", 0, None)
    assert (row["error_message"], row["failed_at"], row["expires_at"]) == (None, None, None)
    assert await outbox.events(message) == [("sending", "failed"), ("failed", "queued")]
    assert (await outbox.claim_one()).number == 1


@pytest.mark.parametrize("ended", ["failed", "cancelled", "expired", "suppressed"])
async def test_whatever_ended_unsent_can_be_retried(outbox: Outbox, ended: str) -> None:
    message = await outbox.put()
    await outbox.change(message, status=ended, available_at=None)

    assert await outbox.store.retry([message]) == [message]
    assert await outbox.claim_ids() == [message]


async def test_what_is_queued_under_way_or_sent_is_not_retried(outbox: Outbox) -> None:
    sent, sending = await outbox.put_many(2)
    attempts = (await outbox.claim()).attempts
    await outbox.settle(attempts[0])
    queued = await outbox.put()

    assert await outbox.store.retry([sent, sending, queued, 10**9]) == []


async def test_an_unconfirmed_message_can_be_retried_once_it_is_held(outbox: Outbox) -> None:
    message = await outbox.put()
    first = await outbox.claim_one()
    await outbox.lose(first)
    assert await outbox.store.retry([message]) == []
    await outbox.change(message, available_at=ago(1))
    await outbox.claim(policy="hold")

    assert await outbox.store.retry([message]) == [message]

    await outbox.apply(status("delivered", first))
    assert (await outbox.row(message))["status"] == "delivered"


async def test_the_older_view_takes_rows_and_answers_in_its_words(outbox: Outbox) -> None:
    record = await outbox.pool.fetchrow(
        """
        insert into waemitter.message_queue (campaign_id, recipient, message_type, payload)
        values (7, '+14155550123', 'text', '{"text": {"body": "Hello"}}')
        returning id, status, priority, channel
        """
    )

    assert record is not None
    assert tuple(record)[1:] == ("pending", 0, "default")
    row = await outbox.row(record["id"])
    assert (row["status"], row["campaign_id"], row["lane"]) == ("queued", 7, "")


async def test_the_older_view_keeps_the_lane_of_a_message_without_a_campaign(
    outbox: Outbox,
) -> None:
    message = await outbox.pool.fetchval(
        "insert into waemitter.message_queue (recipient, payload) values ('+14155550123', '{}')"
        " returning id"
    )

    row = await outbox.row(message)
    assert (row["lane"], row["message_type"]) == ("+14155550123", "text")


@pytest.mark.parametrize(
    ("word", "older"),
    [
        ("queued", "pending"),
        ("sending", "processing"),
        ("unconfirmed", "processing"),
        ("sent", "sent"),
        ("delivered", "delivered"),
        ("read", "read"),
        ("failed", "failed"),
        ("cancelled", "failed"),
        ("expired", "failed"),
        ("suppressed", "failed"),
    ],
)
async def test_the_older_words(outbox: Outbox, word: str, older: str) -> None:
    waiting = word in {"queued", "sending", "unconfirmed"}
    message = await outbox.put(status=word, available_at=ahead(60) if waiting else None)

    shown = await outbox.pool.fetchval(
        "select status from waemitter.message_queue where id = $1", message
    )

    assert shown == older


async def test_the_audit_trail_tells_the_journey_in_its_order(outbox: Outbox) -> None:
    message = await outbox.put()
    await outbox.settle(await outbox.claim_one(), Outcome.RETRY, delay=0.0, code=131000, reason="x")
    attempt = await outbox.claim_one()
    await outbox.settle(attempt)
    await outbox.apply(status("read", attempt, at=ago(5)))

    events = await outbox.pool.fetch(
        "select * from waemitter.outbox_events where message_id = $1 order by at", message
    )

    assert [(event["from_status"], event["to_status"]) for event in events] == [
        ("sending", "queued"),
        ("queued", "sending"),
        ("sending", "sent"),
        ("sent", "delivered"),
        ("delivered", "read"),
    ]
    tried, again = (json.loads(event["detail"]) for event in events[:2])
    assert [tried["code"], tried["attempt"], again["attempt"]] == [131000, 1, 2]
    assert await outbox.events(message) == [
        (event["from_status"], event["to_status"]) for event in events
    ]


async def test_a_failure_after_the_sending_is_in_the_trail_with_its_cause(outbox: Outbox) -> None:
    message = await outbox.put()
    attempt = await outbox.claim_one()
    await outbox.settle(attempt)
    await outbox.apply(status("failed", attempt, code=131049, reason="Not now"))

    events = await outbox.pool.fetch(
        "select * from waemitter.outbox_events where message_id = $1 order by at", message
    )

    assert [event["to_status"] for event in events] == ["sent", "failed"]
    assert json.loads(events[1]["detail"]) == {
        "by": "status webhook",
        "code": 131049,
        "reason": "Not now",
    }
