"""What is old goes, in batches; what is not, or may still be sent, stays."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from tests.observing import Observed, observing
from waemitter.jobs.cleanup import retention
from waemitter.jobs.cleanup.retention import Keep, Retention
from waemitter.jobs.cleanup.sessions import SessionCleanup
from waemitter.jobs.cleanup.store import CleanupStore

Pool = asyncpg.Pool
DAY = timedelta(days=1)
KEEP = Keep(
    outbox=90 * DAY,
    inbound=90 * DAY,
    buffers=30 * DAY,
    webhook_logs=30 * DAY,
    dead_letters=7 * DAY,
    job_runs=7 * DAY,
    agents=90 * DAY,
    audit=365 * DAY,
    events=3 * DAY,
)

CONTACT = """
    with c as (insert into waemitter.contacts (channel, wa_id)
               select 'default', (14155550000 + n)::text from generate_series(1, $1::integer) n returning id),
    v as (insert into waemitter.conversations (channel, contact_id) select 'default', id from c returning id, contact_id)
    select id as conversation_id, contact_id from v order by id
"""


@pytest.fixture
async def pool(dsn: str) -> AsyncIterator[Pool]:
    async with asyncpg.create_pool(dsn, min_size=1, max_size=4) as pool:
        yield pool


@pytest.fixture
async def observed() -> AsyncIterator[Observed]:
    with observing() as observed:
        yield observed


def keeping(pool: Pool, observed: Observed) -> Retention:
    return Retention(CleanupStore(pool), keep=KEEP, events=observed.events, clock=time.monotonic)


def cleaning(pool: Pool, observed: Observed) -> SessionCleanup:
    return SessionCleanup(
        CleanupStore(pool),
        ttl=timedelta(hours=24),
        dead_letters=7 * DAY,
        events=observed.events,
        clock=time.monotonic,
    )


async def message(pool: Pool, status: str, age: timedelta, **columns: Any) -> int:
    """A message that was inserted, and reached its status, so long ago."""
    waits = status in {"queued", "sending", "unconfirmed"}
    message_id: int = await pool.fetchval(
        "insert into waemitter.outbox_messages (recipient, message_type, payload, status, created_at, available_at)"
        " values ('+14155550123', 'text', '{}', $1, now() - $2::interval, case when $3 then 'infinity'::timestamptz end)"
        " returning id",
        status,
        age,
        waits,
    )
    for column, at in columns.items():
        await pool.execute(
            f"update waemitter.outbox_messages set {column} = now() - $2::interval where id = $1",
            message_id,
            at,
        )
    return message_id


async def test_old_messages_go_and_those_in_the_queue_and_of_late_stay(
    pool: Pool, observed: Observed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "BATCH", 2)  # so that it goes on behind the first
    old = timedelta(days=91)
    kept = [await message(pool, "queued", old), await message(pool, "unconfirmed", old)]
    gone = [await message(pool, word, old) for word in ("read", "failed", "cancelled", "expired")]
    kept.append(await message(pool, "delivered", old, delivered_at=DAY))  # its end was yesterday
    gone.append(await message(pool, "sent", old, sent_at=old))
    kept += [await message(pool, "read", timedelta(days=89)) for _ in range(3)]
    await pool.execute(
        "insert into waemitter.outbox_transitions (message_id, from_status, to_status)"
        " select unnest($1::bigint[]), 'sent', 'failed'",
        [gone[0], kept[0]],
    )

    summary = await keeping(pool, observed).run()

    left = await pool.fetch("select id from waemitter.outbox_messages order by id")
    assert [record["id"] for record in left] == sorted(kept)
    assert summary["success"] is True
    assert summary["deleted"]["outbox"] == len(gone)
    transitions = await pool.fetch("select message_id from waemitter.outbox_transitions")
    assert [record["message_id"] for record in transitions] == [kept[0]]
    (line,) = observed.lines("RETENTION_COMPLETED")
    assert line["deleted"] == len(gone)


async def test_a_message_that_is_locked_is_passed_by(pool: Pool, observed: Observed) -> None:
    locked = await message(pool, "read", timedelta(days=91))
    await message(pool, "read", timedelta(days=91))
    async with pool.acquire() as other, other.transaction():
        await other.execute(
            "select from waemitter.outbox_messages where id = $1 for update", locked
        )
        summary = await keeping(pool, observed).run()
    assert summary["deleted"]["outbox"] == 1
    assert await pool.fetchval("select id from waemitter.outbox_messages") == locked


# A row of an age in each table; there is one conversation.
OLD_ROWS = {
    "inbound": """
        insert into waemitter.inbound_messages (conversation_id, whatsapp_message_id, message_type, payload, created_at)
        select id, gen_random_uuid()::text, 'text', '{}', now() - $1::interval from waemitter.conversations""",
    "transitions": """
        insert into waemitter.conversation_state_transitions (conversation_id, from_status, to_status, at)
        select id, 'idle', 'buffering', now() - $1::interval from waemitter.conversations""",
    "buffers": """
        insert into waemitter.message_buffer (conversation_id, status, processed_at)
        select id, 'completed', now() - $1::interval from waemitter.conversations""",
    "webhookLogs": """
        insert into waemitter.webhook_logs (source, body, available_at, created_at)
        select 'whatsapp', '{}', null, now() - $1::interval""",
    "processedKeys": """
        insert into waemitter.processed_webhook_messages (whatsapp_message_id, field, created_at)
        select gen_random_uuid()::text, 'messages', now() - $1::interval""",
    "deadLetters": """
        insert into waemitter.dead_letters (direction, stage, payload, error, resolution_status, updated_at)
        select 'inbound', 'split', '{}', 'x', 'resolved', now() - $1::interval""",
    "jobRuns": """
        insert into waemitter.job_runs (job_name, status, created_at)
        select 'retention', 'succeeded', now() - $1::interval""",
    "alerts": """
        insert into waemitter.alerts
          (name, severity, summary, action, value, hold, seen_until, fired_at, ended_at)
        select gen_random_uuid()::text, 'page', 'x', 'x', 1, '0', now(), now() - $1::interval, now() - $1::interval""",
    "agentContexts": """
        insert into waemitter.agent_contexts (contact_id, kind, said, created_at)
        select id, 'human', 'x', now() - $1::interval from waemitter.contacts""",
    "agentSessions": """
        insert into waemitter.agent_sessions
          (agent, variant, model, contact_id, conversation_id, turn_id, attempt, outcome, ended_at)
        select 'a', 'a', 'm', contact_id, id, 1, 1, 'answered', now() - $1::interval from waemitter.conversations""",
    "audit": """
        insert into waemitter.audit_log (action, key_name, at)
        select 'retry', 'k', now() - $1::interval""",
    "events": """
        insert into waemitter.event_outbox (subscription, event_id, type, subject, data, at)
        select 'shop', gen_random_uuid(), 'message.sent', 'messages/1', '{}', now() - $1::interval""",
}
ANCIENT = timedelta(days=400)


async def test_every_other_table_loses_what_is_old_and_keeps_the_rest(
    pool: Pool, observed: Observed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "BATCH", 2)
    await pool.execute(CONTACT, 1)
    await pool.execute("insert into waemitter.jobs (name, schedule) values ('retention', '1d')")
    for age in (*[ANCIENT] * 5, DAY):
        for statement in OLD_ROWS.values():
            await pool.execute(statement, age)

    summary = await keeping(pool, observed).run()

    assert summary["deleted"] == {"outbox": 0} | dict.fromkeys(OLD_ROWS, 5)
    again = await keeping(pool, observed).run()
    assert sum(again["deleted"].values()) == 0


async def test_a_summary_stays_while_its_contact_goes_on_writing(
    pool: Pool, observed: Observed
) -> None:
    silent, talking = [row["contact_id"] for row in await pool.fetch(CONTACT, 2)]
    remember = (
        "insert into waemitter.agent_contexts (contact_id, agent, kind, said, through_id, created_at)"
        " values ($1, 'a', $2, 'x', case $2 when 'summary' then 1 end, now() - $3::interval)"
    )
    for contact in (silent, talking):
        await pool.execute(remember, contact, "summary", ANCIENT)
    await pool.execute(remember, talking, "turn", DAY)

    await keeping(pool, observed).run()

    left = await pool.fetch("select contact_id, kind from waemitter.agent_contexts order by id")
    assert [tuple(row) for row in left] == [(talking, "summary"), (talking, "turn")]


async def test_a_thousand_sessions_nobody_came_back_to_are_gone(
    pool: Pool, observed: Observed
) -> None:
    contacts = [record["contact_id"] for record in await pool.fetch(CONTACT, 1003)]
    await pool.execute(
        "insert into waemitter.user_sessions (channel, contact_id, last_interaction)"
        " select 'default', id, now() - interval '25 hours' from unnest($1::bigint[]) id",
        contacts,
    )
    await pool.execute(
        "update waemitter.user_sessions set last_interaction = now() - interval '23 hours'"
        " where contact_id = any ($1)",
        contacts[:3],
    )

    summary = await cleaning(pool, observed).run()

    assert summary["success"] is True
    assert summary["sessions"]["deleted"] == 1000
    assert summary["sessions"]["ttlHours"] == 24
    assert summary["sessions"]["cutoffTime"].endswith("Z")
    assert summary["dlq"] == {"deleted": 0, "retentionDays": 7}
    assert summary["durationMs"] >= 0
    assert await pool.fetchval("select count(*) from waemitter.user_sessions") == 3
    assert observed.lines("SESSION_CLEANUP_STARTED")
    (line,) = observed.lines("SESSION_CLEANUP_COMPLETED")
    assert line["sessions"] == 1000


async def test_figures_are_counted_anew_with_more_patience_than_a_message_has(pool: Pool) -> None:
    await message(pool, "queued", timedelta())
    assert await CleanupStore(pool).refresh_analytics(within=60) > 0
    async with pool.acquire() as connection:
        await connection.execute("set statement_timeout = '30s'")
        await CleanupStore(pool).refresh_analytics(within=60)
        assert await connection.fetchval("show statement_timeout") == "30s"


async def test_the_journal_forgets_what_was_said_and_keeps_that_it_came(
    pool: Pool, observed: Observed
) -> None:
    await pool.execute("""
        insert into waemitter.webhook_logs (source, body, headers, available_at, processed_at, created_at)
        select 'whatsapp', '{}', '{}', null, now(), now() - make_interval(days => d) from unnest('{1,8,9}'::integer[]) d
    """)
    keep = replace(KEEP, webhook_bodies=7 * DAY)
    summary = await Retention(
        CleanupStore(pool), keep=keep, events=observed.events, clock=time.monotonic
    ).run()
    assert summary["blanked"] == 2
    rows = await pool.fetch("select body, headers from waemitter.webhook_logs order by created_at")
    assert [tuple(row) for row in rows] == [(b"", None), (b"", None), (b"{}", "{}")]
