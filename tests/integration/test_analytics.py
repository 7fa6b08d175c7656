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
