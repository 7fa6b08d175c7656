"""A whole daemon keeps a schedule by its timer alone, and a dry run does everything but the POST."""

from __future__ import annotations

import datetime
from itertools import pairwise

import asyncpg
import pytest

from tests.whole import ENQUEUE, Whole, whole_daemon

SOON = datetime.timedelta(seconds=0.7)
TOMORROW = datetime.timedelta(days=1)
NEVER = "1d"
AT_ONCE = datetime.timedelta()
FEW = 25  # claims: those of a start and of a bell, and not one for every few milliseconds that a row waits


async def sent(daemon: Whole, count: int) -> None:
    """Return when so many rows are sent."""
    rows = f"select count(*) >= {count} from waemitter.outbox_messages where status = 'sent'"
    await daemon.until(rows)


async def test_a_scheduled_message_costs_nothing_until_it_is_due_and_leaves_by_the_timer(
    dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with whole_daemon(dsn, monkeypatch, OUTBOX__SWEEP_INTERVAL=NEVER) as daemon:
        await daemon.admin.execute(ENQUEUE, 2000, "", TOMORROW)
        daemon.statements.clear()
        await daemon.admin.execute(ENQUEUE, 1, "", SOON)
        await sent(daemon, 1)
        claims = daemon.spoken("claim_messages")

    row = await _only(dsn)
    assert row["claimed_at"] >= row["due_at"]
    assert claims <= FEW
    assert daemon.sink.report()["posts"] == 1


async def _only(dsn: str) -> asyncpg.Record:
    connection = await asyncpg.connect(dsn)
    try:
        [row] = await connection.fetch(
            "select claimed_at, due_at from waemitter.outbox_messages where status = 'sent'"
        )
    finally:
        await connection.close()
    return row


async def test_a_higher_priority_overtakes_what_waits_for_its_slots(
    dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with whole_daemon(dsn, monkeypatch, CHANNEL__MESSAGES_PER_SECOND="20") as daemon:
        await daemon.admin.execute(ENQUEUE, 40, "", AT_ONCE)
        await daemon.admin.execute(
            "select waemitter.send_text('+14155550999', 'Your code is 1234', priority => 9, ordering_key => '')"
        )
        await sent(daemon, 41)
        before = await daemon.value(
            "select count(*) from waemitter.outbox_messages o, waemitter.outbox_messages urgent"
            " where urgent.priority = 9 and o.claimed_at > urgent.claimed_at"
        )

    assert before > 20


async def test_a_dry_run_keeps_limits_lanes_and_settles_and_posts_nothing(
    dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with whole_daemon(
        dsn, monkeypatch, OUTBOX__SEND_ENABLED="false", CHANNEL__MESSAGES_PER_SECOND="40"
    ) as daemon:
        start = await daemon.value("select clock_timestamp()")
        await daemon.admin.execute(ENQUEUE, 40, "", AT_ONCE)
        await daemon.admin.execute(ENQUEUE, 5, "one lane", AT_ONCE)
        await daemon.admin.execute("select waemitter.send_text('Bob', 'no number')")
        await sent(daemon, 45)
        await daemon.drained()
        rows = await daemon.admin.fetch("select * from waemitter.outbox_messages order by id")
        tat = await daemon.value("select tat from waemitter.channel_buckets")

    *good, bad = rows
    lane = [row for row in good if row["ordering_key"]]
    assert {(row["status"], row["dry_run"], row["attempts"]) for row in good} == {("sent", True, 1)}
    assert {row["whatsapp_message_id"] for row in good} == {None}
    assert (bad["status"], bad["dry_run"]) == ("failed", False)
    assert all(earlier["sent_at"] <= later["claimed_at"] for earlier, later in pairwise(lane))
    assert tat - start >= datetime.timedelta(seconds=45 / 40)  # each took a slot, the bad one too
    assert daemon.sink.report()["posts"] == 0
