"""Which changes are told, to whom, and in which transaction."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.event_rows import Stream, facts, stream_at
from tests.outbox_rows import ago, status
from waemitter.jobs.event_stream.event import TYPES
from waemitter.outbox.letters.store import FailureUpdate, LetterStore
from waemitter.outbox.retry import Again, Outcome, Patience

SCHEMA = Path(__file__).parents[2] / "schema.sql"


@pytest.fixture
async def stream(dsn: str) -> AsyncIterator[Stream]:
    async with stream_at(dsn) as stream:
        yield stream


async def test_a_message_s_life_is_told_in_its_order(stream: Stream) -> None:
    await stream.subscribe()
    message = await stream.outbox.put(correlation_id="order-17", idempotency_key="17-shipped")
    attempt = await stream.outbox.claim_one()
    await stream.outbox.settle(attempt)
    for word in ("sent", "delivered", "read", "delivered"):
        await stream.outbox.apply(status(word, attempt))

    events = await stream.drain()
    subject = f"messages/{message}"
    assert [(event.type, event.subject) for event in events] == [
        ("message.sent", subject), ("message.delivered", subject), ("message.read", subject),
    ]  # fmt: skip
    assert events[0].channel == "default"
    sent, delivered, read = facts(events)
    assert sent["id"] == message
    assert sent["correlation_id"] == "order-17"
    assert sent["idempotency_key"] == "17-shipped"
    assert sent["whatsapp_message_id"] == f"wamid.{message}.1"
    assert (sent["status"], delivered["status"], read["status"]) == ("sent", "delivered", "read")
    assert sent["delivered_at"] is None
    assert delivered["delivered_at"] is not None


async def test_without_a_subscription_nothing_is_written(stream: Stream) -> None:
    await stream.outbox.put()
    await stream.outbox.settle(await stream.outbox.claim_one())
    await stream.outbox.pool.execute("update waemitter.channels set paused_until = 'infinity'")

    assert await stream.count() == 0


async def test_each_subscription_gets_what_it_wants_under_one_id(stream: Stream) -> None:
    await stream.subscribe("shop", "message.sent", "message.read")
    await stream.subscribe("crm", "message.sent")
    await stream.subscribe("off", "message.sent")
    await stream.store.enable("off", enabled=False)
    await stream.outbox.put()
    attempt = await stream.outbox.claim_one()
    await stream.outbox.settle(attempt)
    await stream.outbox.apply(status("read", attempt))

    shop, crm = await stream.drain("shop"), await stream.drain("crm")
    assert [event.type for event in shop] == ["message.sent", "message.read"]
    assert [event.event_id for event in crm] == [shop[0].event_id]
    assert await stream.count() == 3


async def test_what_is_rolled_back_was_never_told(stream: Stream) -> None:
    await stream.subscribe()
    message = await stream.outbox.put()
    async with stream.outbox.pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        assert await connection.fetchval("select waemitter.cancel_message($1)", message)
        assert await connection.fetchval("select count(*) from waemitter.event_outbox") == 1
        await transaction.rollback()

    assert await stream.count() == 0


async def test_every_other_end_of_a_message_is_told(stream: Stream) -> None:
    await stream.subscribe()
    pool = stream.outbox.pool
    failed, expired, suppressed, cancelled, updated, lost = [
        await stream.outbox.put(recipient=f"+1415555010{n}") for n in range(6)
    ]
    await pool.execute("select waemitter.suppress('+14155550102')")
    await stream.outbox.change(expired, expires_at=ago(1))
    await pool.execute("select waemitter.cancel_message($1)", cancelled)
    await stream.outbox.change(updated, status="failed", available_at=None)
    attempts = {attempt.id: attempt for attempt in (await stream.outbox.claim()).attempts}
    await stream.outbox.settle(attempts[failed], Outcome.FAILED, code=131026, reason="no")
    await stream.outbox.settle(attempts[lost], Outcome.UNCONFIRMED, delay=60.0)
    refused = await pool.fetchval("select waemitter.send_text('+14155550102', 'Hello')")

    told = set(await stream.told()) - {("contact.opted_out", "contacts/14155550102")}
    assert told == {
        ("message.failed", f"messages/{failed}"),
        ("message.expired", f"messages/{expired}"),
        ("message.suppressed", f"messages/{suppressed}"),
        ("message.cancelled", f"messages/{cancelled}"),
        ("message.failed", f"messages/{updated}"),
        ("message.unconfirmed", f"messages/{lost}"),
        ("message.suppressed", f"messages/{refused}"),
    }


async def test_a_failure_that_is_taken_back_at_once_was_none(stream: Stream) -> None:
    await stream.subscribe()
    resent, given_up = await stream.outbox.put_many(2)
    attempts = {attempt.id: attempt for attempt in (await stream.outbox.claim()).attempts}
    for attempt in attempts.values():
        await stream.outbox.settle(attempt)
    assert len(await stream.drain()) == 2
    updates = [
        status("failed", attempts[message], code=131000, reason="it broke")
        for message in (resent, given_up)
    ]
    failures = [
        FailureUpdate(each.message_id, each.token, each.wamid, 131000, "transient", again, 9, 0.0, suppress=False)
        for each, again in zip(updates, (Again.SPENT, Again.NEVER), strict=True)
    ]  # fmt: skip
    async with stream.outbox.pool.acquire() as connection, connection.transaction():
        await stream.outbox.store.apply_statuses(connection, updates)
        await LetterStore(stream.outbox.pool).apply_failures(
            connection, failures, patience=Patience(max_attempts=5, delays=(60.0,), grace=60.0)
        )

    assert (await stream.outbox.row(resent))["status"] == "queued"
    assert await stream.told() == [("message.failed", f"messages/{given_up}")]


async def test_pauses_campaigns_and_opt_outs_are_told(stream: Stream) -> None:
    await stream.subscribe()
    pool = stream.outbox.pool
    await pool.execute(
        "update waemitter.channels set paused_until = 'infinity', pause_reason = 'x'"
    )
    await pool.execute("update waemitter.channels set paused_until = null")
    await pool.execute("update waemitter.channels set messages_per_second = 5")
    campaign = await pool.fetchval(
        "insert into waemitter.campaigns (name) values ('Spring') returning id"
    )
    for word in ("running", "paused", "cancelled"):
        await pool.execute(
            "update waemitter.campaigns set status = $2 where id = $1", campaign, word
        )
    await pool.execute("select waemitter.suppress('+1 415 555 0102', scope => 'marketing')")
    await pool.execute("select waemitter.unsuppress('+14155550102')")

    events = await stream.drain()
    assert [(event.type, event.subject) for event in events] == [
        ("channel.paused", "channels/default"),
        ("campaign.started", f"campaigns/{campaign}"),
        ("contact.opted_out", "contacts/14155550102"),
        ("channel.resumed", "channels/default"),
        ("campaign.paused", f"campaigns/{campaign}"),
        ("contact.opted_in", "contacts/14155550102"),
        ("campaign.cancelled", f"campaigns/{campaign}"),
    ]
    paused, started = facts(events)[:2]
    assert paused == {
        "channel": "default", "reason": "x", "paused_until": None, "quality": None, "tier": None,
    }  # fmt: skip
    assert started["name"] == "Spring"


async def test_applications_change_messages_without_a_right_to_events(stream: Stream) -> None:
    await stream.subscribe()
    async with stream.outbox.pool.acquire() as connection:
        await connection.execute("set role waemitter_app")
        mine = await connection.fetchval("select waemitter.send_text('+14155550123', 'Hello')")
        assert await connection.fetchval("select waemitter.cancel_message($1)", mine)
        with pytest.raises(Exception, match="permission denied"):
            await connection.fetch("select * from waemitter.event_outbox")
        await connection.execute("reset role")

    assert await stream.told() == [("message.cancelled", f"messages/{mine}")]


def test_the_schema_tells_of_every_type_and_of_no_other() -> None:
    section = SCHEMA.read_text().partition("-- Events out:")[2].partition("-- Roles and row")[0]
    written = set(re.findall(r"'((?:channel|contact|message)\.[a-z_]+)'", section))
    made = {each for each in TYPES if each.startswith(("message.", "turn.", "campaign."))}

    assert written <= set(TYPES)
    assert {each for each in TYPES if each.startswith(("channel.", "contact."))} <= written
    assert {each.partition(".")[0] for each in made} == {"message", "turn", "campaign"}


async def test_statuses_that_come_together_are_told_one_by_one(stream: Stream) -> None:
    await stream.subscribe()
    message = await stream.outbox.put()
    attempt = await stream.outbox.claim_one()
    await stream.outbox.apply(status("read", attempt), status("failed", attempt))

    events = await stream.drain()
    assert [event.type for event in events] == ["message.sent", "message.delivered", "message.read"]
    assert [each["status"] for each in facts(events)] == ["sent", "delivered", "read"]
    await stream.outbox.pool.execute("select waemitter.retry_message($1)", message)
    await stream.outbox.settle(attempt)
    assert await stream.told() == []
