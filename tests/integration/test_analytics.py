"""What happened in an hour is counted into service_metrics, and stays when the messages are gone."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest

from tests.campaign_rows import Campaigns, numbers
from tests.outbox_rows import Outbox, ago, outbox_at, status
from waemitter.outbox.campaigns.store import CampaignStore


@pytest.fixture
async def outbox(dsn: str) -> AsyncIterator[Outbox]:
    async with outbox_at(dsn) as outbox:
        yield outbox


async def refresh(outbox: Outbox) -> dict[tuple[str, str], float]:
    """The figures by name and labels, over all hours."""
    await outbox.pool.execute("select waemitter.refresh_analytics()")
    records = await outbox.pool.fetch(
        "select name, labels, sum(value) as value from waemitter.service_metrics group by 1, 2"
    )
    return {
        (record["name"], " ".join(str(v) for v in json.loads(record["labels"]).values())): record[
            "value"
        ]
        for record in records
    }


async def test_messages_are_counted_in_the_hour_in_which_it_happened(outbox: Outbox):
    campaign = await Campaigns(outbox, CampaignStore(outbox.pool)).make(*numbers(3))
    first, second, third = (await outbox.claim()).attempts
    await outbox.settle_all([first, second, third])
    await outbox.apply(
        status("read", first, category="marketing", billable=True),
        status("failed", second, code=131026, reason="no"),
    )

    figures = await refresh(outbox)

    assert figures["messages_enqueued", "default"] == 3
    assert figures["messages_sent", "default"] == 3
    assert figures["messages_delivered", "default"] == figures["messages_read", "default"] == 1
    assert figures["messages_failed", "131026 default"] == 1
    assert figures["campaign_total", str(campaign)] == 3
    assert figures["campaign_failed", str(campaign)] == 1
    (priced,) = [labels for name, labels in figures if name == "messages_priced"]
    assert set(priced.split()) == {"default", "marketing", "True"}


async def test_counting_again_changes_nothing_and_old_hours_outlive_their_messages(outbox: Outbox):
    message = await outbox.put()
    await outbox.settle(await outbox.claim_one())
    await outbox.change(message, sent_at=ago(3 * 3600))
    once = await refresh(outbox)
    assert await refresh(outbox) == once

    await outbox.pool.execute(
        "update waemitter.service_metrics set hour = hour - interval '3 days'"
    )
    await outbox.pool.execute("delete from waemitter.outbox_messages")

    assert await refresh(outbox) == once


async def test_a_correction_corrects_the_figures(outbox: Outbox):
    await outbox.put()
    attempt = await outbox.claim_one()
    await outbox.settle(attempt)
    await outbox.apply(status("failed", attempt, code=131026, reason="no"))
    before = await refresh(outbox)
    await outbox.apply(status("delivered", attempt))
    after = await refresh(outbox)

    assert before["messages_failed", "131026 default"] == 1
    assert ("messages_failed", "131026 default") not in after
    assert after["messages_delivered", "default"] == 1


async def test_messages_of_long_ago_are_left_out_without_a_scan(outbox: Outbox):
    old = await outbox.put_many(50, created_at=ago(20 * 86_400))
    new = await outbox.put_many(3)
    figures = await refresh(outbox)

    assert old < new
    assert figures["messages_enqueued", "default"] == 3


async def test_replies_are_counted_by_the_route_and_the_agent_of_their_turn(outbox: Outbox):
    await outbox.pool.execute(
        """
        with contact as (insert into waemitter.contacts (channel, wa_id) values ('default', '14155550123') returning id),
        talk as (insert into waemitter.conversations (channel, contact_id) select 'default', id from contact returning id)
        insert into waemitter.message_buffer (conversation_id, status, route, outcome, closed_at, processed_at)
        select id, 'completed', route, 'answered', now(), now() from talk, unnest('{menu,assistant}'::text[]) as route
        """
    )
    menu, assistant = await outbox.pool.fetch(
        "select id, conversation_id from waemitter.message_buffer order by id"
    )
    await outbox.pool.execute(
        "insert into waemitter.agent_sessions (agent, variant, model, conversation_id, turn_id, attempt) values"
        " ('helper', 'a', 'm', $1, $2, 1)",
        assistant["conversation_id"],
        assistant["id"],
    )
    keys = (
        f"turn:{menu['id']}:1",
        f"turn:{assistant['id']}:1",
        "turn:99999999999999999999:1",
        "turn:of mine",
    )
    for key in keys:
        await outbox.put(idempotency_key=key, ordering_key="")
    attempts = (await outbox.claim()).attempts
    await outbox.settle_all(attempts)
    await outbox.apply(status("delivered", attempts[1]))

    figures = await refresh(outbox)

    assert figures["messages_sent", "default"] == 4
    assert figures["turn_replies_sent", "menu"] == figures["turn_replies_sent", "assistant"] == 1
    assert figures["turn_replies_arrived", "assistant"] == 1
    assert ("turn_replies_arrived", "menu") not in figures
    assert (
        figures["agent_replies_sent", "helper"] == figures["agent_replies_arrived", "helper"] == 1
    )
