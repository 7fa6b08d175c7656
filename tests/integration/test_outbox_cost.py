"""What a message costs the database: statements and write-ahead log, from claim to outcome, by a whole daemon.

Counted, not timed: every statement by the driver's own query logger, WAL by its position; the test server writes no full-page
images. Both bounds are the project's bars.
"""

from __future__ import annotations

import datetime

import pytest

from tests.outbox_rows import outbox_at
from tests.whole import ENQUEUE, whole_daemon

MESSAGES = 3000
STATEMENTS = 0.1  # a message
WAL = 2500  # bytes a message
ZERO = datetime.timedelta()
POSITION = "select pg_current_wal_insert_lsn()"
SINCE = "select pg_current_wal_insert_lsn() - $1"


@pytest.mark.parametrize("lane", ["", None], ids=["unordered", "a lane for each recipient"])
@pytest.mark.parametrize("latency", [0.0, 0.1])
async def test_a_full_queue_costs_few_statements_and_little_wal(
    dsn: str, monkeypatch: pytest.MonkeyPatch, latency: float, lane: str | None
) -> None:
    async with whole_daemon(dsn, monkeypatch, latency=latency) as daemon:
        assert await daemon.value("show full_page_writes") == "off"
        await daemon.admin.execute(
            "alter table waemitter.outbox_messages set (autovacuum_enabled = off)"
        )
        longest = "select max(length(payload::text)) from waemitter.outbox_messages"
        async with daemon.admin.transaction():
            await daemon.admin.execute(ENQUEUE, MESSAGES, lane, ZERO)
            assert 350 <= await daemon.value(longest) <= 400
        start = await daemon.value(POSITION)
        daemon.statements.clear()
        await daemon.drained()
        wal = await daemon.value(SINCE, start)
        statements = daemon.spoken("claim_messages", "settle_messages")

    assert daemon.sink.report()["distinct"] == MESSAGES
    assert statements > 0
    assert statements / MESSAGES <= STATEMENTS
    assert len(daemon.statements) / MESSAGES <= STATEMENTS
    assert 0 < wal / MESSAGES <= WAL


async def test_claims_and_settles_of_full_batches_cost_as_little_as_can_be(dsn: str) -> None:
    async with outbox_at(dsn) as outbox:
        await outbox.pool.execute(ENQUEUE, MESSAGES, "", ZERO)
        start = await outbox.pool.fetchval(POSITION)
        for _ in range(MESSAGES // 500):
            await outbox.settle_all((await outbox.claim(500)).attempts)
        wal = await outbox.pool.fetchval(SINCE, start)
        sent = "select count(*) from waemitter.outbox_messages where status = 'sent'"

        assert await outbox.pool.fetchval(sent) == MESSAGES
        assert wal / MESSAGES <= WAL
