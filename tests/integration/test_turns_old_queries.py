"""The queries of older runbooks, word for word: they run with search_path = waemitter, and mean what they say."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final

import asyncpg
import pytest

from waemitter.db.schema import Connection

QUERIES: Final = {
    "active sessions": "SELECT COUNT(*) FROM user_sessions WHERE active_service IS NOT NULL;",
    "stale sessions": """
        SELECT phone_number, last_interaction,
               NOW() - last_interaction AS age
        FROM user_sessions
        WHERE last_interaction < NOW() - INTERVAL '24 hours';
    """,
    "flags": "SELECT * FROM feature_flags;",
    "trigger": "SELECT * FROM trigger_buffer_processing();",
    "active buffers": "SELECT status, COUNT(*) FROM message_buffer GROUP BY status;",
    "recent buffer activity": """
        SELECT
            DATE_TRUNC('hour', created_at) as hour,
            COUNT(*) as buffers_created,
            AVG(message_count) as avg_messages_per_buffer
        FROM message_buffer
        WHERE created_at > NOW() - INTERVAL '24 hours'
        GROUP BY hour
        ORDER BY hour;
    """,
    "processing performance": """
        SELECT
            DATE_TRUNC('hour', processed_at) as hour,
            COUNT(*) as buffers_processed,
            AVG(EXTRACT(EPOCH FROM (processed_at - buffer_start_time))) as avg_processing_time_seconds
        FROM message_buffer
        WHERE processed_at IS NOT NULL
        AND processed_at > NOW() - INTERVAL '24 hours'
        GROUP BY hour
        ORDER BY hour;
    """,
    "failed jobs": """
        SELECT * FROM buffer_processing_jobs
        WHERE status = 'failed'
        ORDER BY created_at DESC;
    """,
    "flag on": "UPDATE feature_flags SET is_enabled = true WHERE flag_name = 'message_buffering';",
    "flag off": "UPDATE feature_flags SET is_enabled = false WHERE flag_name = 'response_quality_enhancement';",
    "flag status": "SELECT flag_name, is_enabled, description FROM feature_flags;",
    "old buffers": """
        DELETE FROM message_buffer
        WHERE status = 'completed'
        AND processed_at < NOW() - INTERVAL '30 days';
    """,
    "reset failed jobs": """
        UPDATE buffer_processing_jobs
        SET status = 'scheduled', attempts = 0, error_message = NULL
        WHERE status = 'failed' AND attempts < 3;
    """,
    "kill switch": "SELECT toggle_buffer_processing(false);",
    "buffering off": "UPDATE feature_flags SET is_enabled = false WHERE flag_name = 'message_buffering';",
    "webhooks by end": "SELECT * FROM webhook_logs ORDER BY processed_at DESC LIMIT 10;",
    "webhooks by beginning": "SELECT * FROM webhook_logs ORDER BY created_at DESC LIMIT 10;",
    "buffers with jobs": """
        SELECT
            mb.*,
            bpj.status as job_status,
            bpj.attempts,
            bpj.error_message
        FROM message_buffer mb
        LEFT JOIN buffer_processing_jobs bpj ON mb.id = bpj.buffer_id
        WHERE mb.created_at > NOW() - INTERVAL '1 hour'
        ORDER BY mb.created_at DESC;
    """,
    "buffers with messages": """
        SELECT
            mb.id as buffer_id,
            mb.status,
            mb.message_count,
            COUNT(bm.id) as actual_message_count
        FROM message_buffer mb
        LEFT JOIN buffered_messages bm ON mb.id = bm.buffer_id
        WHERE mb.created_at > NOW() - INTERVAL '1 hour'
        GROUP BY mb.id, mb.status, mb.message_count
        ORDER BY mb.created_at DESC;
    """,
    "conversation health": "SELECT * FROM webhook_conversation_health;",
    "system health": "SELECT * FROM check_webhook_system_health();",
    "performance": "SELECT * FROM get_webhook_performance_stats(24);",
    "stuck": "SELECT * FROM stuck_webhook_conversations;",
    "stuck count": "SELECT COUNT(*) FROM stuck_webhook_conversations;",
    "letters": "SELECT * FROM webhook_dlq_summary;",
    "pending letters": "SELECT COUNT(*) FROM webhook_dlq WHERE resolution_status = 'pending';",
    "unprocessed letters": "SELECT COUNT(*) FROM wa_dead_letter_queue WHERE processed = false;",
    "cleanup": "SELECT cleanup_stuck_webhook_conversations();",
    "latency": """
        SELECT avg_processing_ms, p95_processing_ms, p99_processing_ms
        FROM webhook_message_processing_metrics
        ORDER BY hour DESC
        LIMIT 1;
    """,
    "claim": """
        SELECT * FROM processed_webhook_messages
        WHERE whatsapp_message_id = 'YOUR_MESSAGE_ID';
    """,
    "letter": """
        SELECT * FROM webhook_dlq
        WHERE whatsapp_message_id = 'YOUR_MESSAGE_ID';
    """,
    "stale locks": """
        SELECT * FROM webhook_conversations
        WHERE locked_at < NOW() - INTERVAL '2 minutes';
    """,
    "error patterns": """
        SELECT error, COUNT(*)
        FROM webhook_dlq
        GROUP BY error
        ORDER BY COUNT(*) DESC;
    """,
    "retry letters": """
        UPDATE webhook_dlq
        SET next_retry_at = NOW()
        WHERE resolution_status = 'pending';
    """,
}


@pytest.fixture
async def session(dsn: str) -> AsyncIterator[Connection]:
    connection = await asyncpg.connect(dsn, server_settings={"search_path": "waemitter"})
    yield connection
    await connection.close()


@pytest.mark.parametrize("query", QUERIES.values(), ids=QUERIES.keys())
async def test_an_old_query_runs_as_it_stands(session: Connection, query: str) -> None:
    await session.fetch(query)


async def test_the_old_switches_are_rows(session: Connection) -> None:
    names = {row["flag_name"] for row in await session.fetch(QUERIES["flags"])}

    assert names >= {"message_buffering", "enhanced_processing", "response_quality_enhancement"}
    assert await session.fetchval(QUERIES["kill switch"]) is False
    assert not await session.fetchval("select waemitter.flag_enabled('buffer_processing')")


async def test_an_old_lock_is_seen_freed_and_counted(session: Connection) -> None:
    await session.execute("""
        with c as (insert into contacts (channel, wa_id) values ('default', '14155550123') returning id)
        insert into conversations (channel, contact_id, status, lock_id, locked_at, lock_expires_at)
        select 'default', id, 'processing', gen_random_uuid(), now() - interval '3 minutes', now() - interval '1 minute' from c
    """)

    assert len(await session.fetch(QUERIES["stale locks"])) == 1
    assert await session.fetchval(QUERIES["stuck count"]) == 1
    assert await session.fetchval(QUERIES["cleanup"]) == 1
    assert await session.fetchval(QUERIES["stuck count"]) == 0
    assert len(await session.fetch(QUERIES["stale locks"])) == 0
    (moved,) = await session.fetch(
        "select from_status, to_status from conversation_state_transitions"
    )
    assert tuple(moved) == ("processing", "idle")


async def test_a_share_of_the_contacts_has_a_switch_and_it_is_always_the_same_ones(
    session: Connection,
) -> None:
    await session.execute(
        "update feature_flags set rollout_percent = 30 where flag_name = 'enhanced_processing'"
    )
    count = "select count(*) filter (where flag_enabled('enhanced_processing', n)) from generate_series(1, 2000) n"

    some = await session.fetchval(count)

    assert 480 < some < 720
    assert await session.fetchval(count) == some
    assert not await session.fetchval("select flag_enabled('enhanced_processing')")
