"""What the outbox's statements cost: pages touched beside 200,000 finished rows.

Pages are counted by EXPLAIN of the call itself: what its inner statements touch is counted with it.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Final

import pytest

from tests.outbox_rows import Outbox, outbox_at
from waemitter.db.schema import Connection

BATCH: Final = 100
PAGES_A_ROW: Final = 60  # index descents, the row read and written, its index entries; a new connection's catalogue too

FINISHED: Final = """
    insert into waemitter.outbox_messages (recipient, message_type, payload, status, available_at, attempts, claimed_at,
                                           sent_at, whatsapp_message_id, token)
    select '+1415' || n % 5000, 'text', '{"text": {"body": "Hello"}}', 'sent', null, 1, now(), now(), 'wamid.' || n, n
    from generate_series(1, 200000) n
"""
QUEUED: Final = """
    insert into waemitter.outbox_messages (recipient, message_type, payload)
    select '+1415' || n, 'text', '{"text": {"body": "Hello"}}' from generate_series(1, $1::integer) n
"""
STRANGERS: Final = """
    with opted_out as (
      insert into waemitter.suppressions (address, reason) select '1900' || n, 'STOP' from generate_series(1, 20000) n)
    insert into waemitter.outbox_pairs (channel, address, tat)
      select 'default', '1900' || n, clock_timestamp() from generate_series(1, 20000) n
"""
ONE: Final = """
    insert into waemitter.outbox_messages (recipient, message_type, payload)
    values ('+1415' || lpad($1::integer::text, 7, '0'), 'text', '{"text": {"body": "Hello"}}')
"""
FEW: Final = """
    insert into waemitter.outbox_messages (recipient, message_type, payload)
    select '+1416' || lpad(n::text, 7, '0'), 'text', '{"text": {"body": "Hello"}}' from generate_series(1, 160) n
"""  # the index of lanes has been split by then, that of what is due has not
CLAIM: Final = """
    explain (analyze, buffers, format json)
    select * from waemitter.claim_messages('default', 100, '15 s', '0.2 s', '60 s', 'retry', 5)
"""
SETTLE: Final = """
    explain (analyze, buffers, format json)
    select * from waemitter.settle_messages($1, $2, $3, $4, $5, $6, $7)
"""
APPLY: Final = """
    explain (analyze, buffers, format json)
    select * from waemitter.apply_statuses($1, $2, $3, $4, $5, $6, $7, $8, $9, true)
"""


@pytest.fixture
async def outbox(dsn: str) -> AsyncIterator[Outbox]:
    async with outbox_at(dsn) as outbox:
        yield outbox


async def pages(connection: Connection, statement: str, *arguments: object) -> float:
    """Pages that the call touched, for each row of a batch."""
    (told,) = json.loads(await connection.fetchval(statement, *arguments))
    plan = told["Plan"]
    return float(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]) / BATCH


async def sending(connection: Connection) -> tuple[list[int], list[int]]:
    records = await connection.fetch(
        "select id, token from waemitter.outbox_messages where status = 'sending' order by id limit 100"
    )
    return [record["id"] for record in records], [record["token"] for record in records]


async def touched_by_all(connection: Connection) -> dict[str, float]:
    """Pages a row, of a claim, of its settle, and of its statuses by echo and by wamid."""
    costs = {"claim": await pages(connection, CLAIM)}
    ids, tokens = await sending(connection)
    assert len(ids) == BATCH
    wamids = [f"wamid.new.{message}" for message in ids]
    nothing = [None] * BATCH
    costs["settle"] = await pages(
        connection, SETTLE, ids, tokens, ["sent"] * BATCH, wamids, nothing, nothing, nothing
    )
    rest = (nothing, nothing, nothing, nothing, nothing)
    costs["by echo"] = await pages(
        connection, APPLY, ids, tokens, wamids, ["delivered"] * BATCH, *rest
    )
    costs["by wamid"] = await pages(
        connection, APPLY, nothing, nothing, wamids, ["read"] * BATCH, *rest
    )
    return costs


async def call_all(connection: Connection) -> None:
    """Of messages that are not there."""
    nothing = [None] * 6
    await connection.fetch(CLAIM)
    await connection.fetch(
        SETTLE, [-1], [1], ["sent"], ["wamid.none"], *([each] for each in nothing[:3])
    )
    await connection.fetch(
        APPLY, [-1], [1], ["wamid.none"], ["read"], *([each] for each in nothing[:5])
    )


@pytest.mark.parametrize("analyzed", ["never", "while it was empty", "when it was full"])
async def test_finished_rows_cost_nothing_even_to_plans_made_while_the_table_was_empty(
    outbox: Outbox, analyzed: str
) -> None:
    async with outbox.pool.acquire() as old, outbox.pool.acquire() as fresh:
        await outbox.pool.execute(
            "alter table waemitter.outbox_messages set (autovacuum_enabled = off)"
        )
        if analyzed == "while it was empty":
            await outbox.pool.execute("vacuum analyze waemitter.outbox_messages")
        await call_all(old)
        for _ in range(6):  # a prepared plan is kept from the sixth time on
            await old.execute(QUEUED, BATCH)
            await touched_by_all(old)
        await old.execute(QUEUED, BATCH)
        alone = await touched_by_all(old)
        await outbox.pool.execute(FINISHED)
        if analyzed == "when it was full":
            await outbox.pool.execute("analyze waemitter.outbox_messages")
        await outbox.pool.execute(QUEUED, 1000)

        costs = [await touched_by_all(old), await touched_by_all(fresh)]

    for cost in costs:
        for statement, touched in cost.items():
            assert touched <= 3 * alone[statement], statement
            assert touched <= PAGES_A_ROW, statement


async def test_one_message_costs_no_more_beside_finished_ones_even_with_plans_made_before_them(
    outbox: Outbox,
) -> None:
    """As an idle daemon claims it, with all that may stand in its way in use."""
    await outbox.channel(pair_seconds=6.0)
    await outbox.pool.execute(STRANGERS)
    async with outbox.pool.acquire() as connection:
        await connection.execute(
            "alter table waemitter.outbox_messages set (autovacuum_enabled = off)"
        )
        await connection.execute("vacuum analyze waemitter.outbox_messages")
        await connection.fetch(CLAIM)
        await connection.execute(QUEUED, 1)
        await connection.fetch(CLAIM)
        await connection.execute(FINISHED)
        await connection.fetch(CLAIM)  # once, whatever the many have changed is read anew
        costs = []
        for recipient in ("+18005550001", "+18005550002"):
            await outbox.put(recipient=recipient, ordering_key=None)
            costs.append(BATCH * await pages(connection, CLAIM))
    assert max(costs) <= 2 * PAGES_A_ROW


@pytest.mark.parametrize("begun", ["while it was empty", "with a few rows", "after a truncate"])
async def test_a_few_at_a_time_do_not_cost_the_whole_queue_after_plans_for_a_small_table(
    outbox: Outbox, begun: str
) -> None:
    """As a number's limit hands them out, and applications put them in one by one: no claim is large."""
    await outbox.channel(pair_seconds=6.0, messages_per_second=80)
    async with outbox.pool.acquire() as connection:
        await connection.execute(
            "alter table waemitter.outbox_messages set (autovacuum_enabled = off)"
        )
        if begun == "while it was empty":
            await connection.execute("vacuum analyze waemitter.outbox_messages")
            await costs_of_claims(connection, 3)
        if begun == "after a truncate":
            await put_one_by_one(connection, 3000)
            await costs_of_claims(connection, 3)
            await connection.execute("truncate waemitter.outbox_messages")
        await connection.execute(FEW)
        await costs_of_claims(connection, 3)
        await put_one_by_one(connection, 3000)
        costs = await costs_of_claims(connection, 4)
    assert max(costs[2:]) <= PAGES_A_ROW / 10, costs  # that one was slow tells the next


async def put_one_by_one(connection: Connection, count: int) -> None:
    for n in range(count):
        await connection.execute(ONE, n)


async def costs_of_claims(connection: Connection, claims: int) -> list[float]:
    """Hundredths of the pages that each claim of up to 16 rows touched: pages() divides by BATCH."""
    costs = []
    for _ in range(claims):
        await connection.execute("update waemitter.channel_buckets set tat = '-infinity'")
        costs.append(await pages(connection, CLAIM))
    return costs


async def test_a_long_lane_at_the_head_costs_a_claim_what_it_parks_and_not_its_length(
    outbox: Outbox,
) -> None:
    await outbox.pool.execute(
        "insert into waemitter.outbox_messages (recipient, message_type, payload)"
        " select '+14155550123', 'text', '{}' from generate_series(1, 15000)"
    )
    async with outbox.pool.acquire() as connection:
        first, second = await pages(connection, CLAIM), await pages(connection, CLAIM)

    parked = await outbox.pool.fetchval(
        "select count(*) from waemitter.outbox_messages where hold = 'lane'"
    )
    assert parked == 1000
    assert max(first, second) * BATCH <= PAGES_A_ROW * 500


async def test_a_capped_campaign_at_the_head_costs_a_claim_what_it_dates_and_not_its_length(
    outbox: Outbox,
) -> None:
    await outbox.pool.execute(
        """
        with made as (
          insert into waemitter.campaigns (name, status, messages_per_second) values ('May', 'running', 1) returning id)
        insert into waemitter.outbox_messages (recipient, message_type, payload, ordering_key, campaign_id)
        select '+1415555' || n, 'text', '{}', '', made.id from made, generate_series(1, 5000) n
        """
    )
    async with outbox.pool.acquire() as connection:
        first, second = await pages(connection, CLAIM), await pages(connection, CLAIM)

    dated = await outbox.pool.fetchval(
        "select count(*) from waemitter.outbox_messages where due_at is not null"
    )
    assert 1000 <= dated <= 1100
    assert max(first, second) * BATCH <= PAGES_A_ROW * 500
