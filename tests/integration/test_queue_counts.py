"""How many messages got how far: told of all that there ever were, at the cost of what waits."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Final

import pytest

from tests.integration.test_metrics_cost import nodes
from tests.outbox_rows import Outbox, outbox_at, status
from waemitter.db import schema
from waemitter.outbox.intake.store import IntakeStore, Tally
from waemitter.outbox.retry import Outcome

QUEUED: Final = 100
PAGES: Final = 3 * QUEUED  # of the index, the rows, the catalogue
FINISHED: Final = """
    with made as (insert into waemitter.campaigns (name, status) values ('May', 'running') returning id)
    insert into waemitter.outbox_messages (recipient, message_type, payload, status, available_at, attempts, claimed_at, sent_at,
                                           whatsapp_message_id, token, campaign_id)
    select '+1415' || n, 'text', '{"text": {"body": "Hello"}}', (array['sent', 'delivered', 'read', 'failed'])[1 + n % 4], null,
           1, now(), now(), 'wamid.' || n, n, made.id
    from made, generate_series(1, 20000) n
"""
WAITING: Final = """
    insert into waemitter.outbox_messages (recipient, message_type, payload, ordering_key, campaign_id)
    select '+1415' || n, 'text', '{}', '', c.id from waemitter.campaigns c, generate_series(1, $1::integer) n
"""
LATER: Final = "update waemitter.outbox_counts set at = at - interval '3 minutes'"
TOTALS: Final = "select sent, delivered, read, failed from waemitter.outbox_totals"


@pytest.fixture
async def outbox(dsn: str) -> AsyncIterator[Outbox]:
    async with outbox_at(dsn) as outbox:
        yield outbox


async def tally(outbox: Outbox) -> Tally:
    return await IntakeStore(outbox.pool).tally(None)


@pytest.mark.parametrize("of_a_campaign", [False, True], ids=["all", "of a campaign"])
async def test_finished_rows_are_counted_and_not_read(
    outbox: Outbox, *, of_a_campaign: bool
) -> None:
    await outbox.pool.execute(FINISHED)
    await outbox.pool.execute(WAITING, QUEUED)
    await outbox.pool.execute("vacuum analyze waemitter.outbox_messages")
    await outbox.store.sweep()
    campaign = await outbox.pool.fetchval("select id from waemitter.campaigns")
    asked = campaign if of_a_campaign else None
    await outbox.pool.fetchval("select waemitter.count_changes()")

    counted = await IntakeStore(outbox.pool).tally(asked)
    told = await outbox.pool.fetchval(
        f"explain (analyze, buffers, format json) {IntakeStore.TALLY}", asked
    )

    assert counted == Tally(QUEUED, 0, 15000, 5000, 10000, 5000, 0)
    plan = json.loads(told)[0]["Plan"]
    scans = [node for node in nodes(plan) if node.get("Relation Name") == "outbox_messages"]
    assert scans
    assert "Seq Scan" not in {node["Node Type"] for node in scans}
    assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] <= PAGES


async def test_totals_stay_when_counts_are_added_up_and_messages_forgotten(outbox: Outbox) -> None:
    await outbox.put_many(4)
    first, second, third, _ = (await outbox.claim()).attempts
    await outbox.settle_all([first, second])
    await outbox.settle(third, Outcome.FAILED, code=131026, reason="gone")
    await outbox.apply(status("read", first))
    fresh = await tally(outbox)
    assert fresh == Tally(0, 1, 2, 1, 1, 1, 2)

    await outbox.store.sweep()
    assert await tally(outbox) == fresh, "what is younger than the rate's minute is left alone"
    await outbox.pool.execute(LATER)
    await asyncio.gather(outbox.store.sweep(), outbox.store.sweep())
    await outbox.pool.execute("delete from waemitter.outbox_messages where available_at is null")

    assert await outbox.pool.fetchval("select count(*) from waemitter.outbox_counts") == 0
    assert tuple(await outbox.pool.fetchrow(TOTALS) or ()) == (2, 1, 1, 1)
    assert await tally(outbox) == fresh._replace(recent=0)


async def test_what_a_claim_ends_beside_what_it_takes_is_counted(outbox: Outbox) -> None:
    await outbox.put_many(2)
    await outbox.pool.execute(
        "update waemitter.outbox_messages set expires_at = now() where id = (select max(id) from waemitter.outbox_messages)"
    )
    assert len((await outbox.claim()).attempts) == 1
    assert await tally(outbox) == Tally(0, 1, 0, 1, 0, 0, 0)


async def test_messages_of_an_older_schema_are_counted_once(
    outbox: Outbox, connection: schema.Connection
) -> None:
    await outbox.pool.execute(FINISHED)
    await outbox.pool.execute("drop table waemitter.outbox_totals, waemitter.outbox_counts")
    for _ in range(2):
        await schema.apply(connection)
    assert tuple(await outbox.pool.fetchrow(TOTALS) or ()) == (15000, 10000, 5000, 5000)
