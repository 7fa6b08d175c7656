"""Which index answers what is asked of conversations, turns and sessions, beside thousands of rows that are of no concern."""

from __future__ import annotations

import json
from typing import Any, Final, cast

import pytest

from tests.inbox_bench import NUMBER
from waemitter.db.schema import Connection
from waemitter.inbox.gathering.store import GatheringStore, Placed
from waemitter.inbox.store import Inbound, InboxStore

FILL: Final = (
    """
    insert into waemitter.contacts (channel, wa_id) select 'default', (14150000000 + n)::text from generate_series(1, 20000) n
    """,
    """
    insert into waemitter.conversations (channel, contact_id, status, updated_at, lock_id, locked_at, lock_expires_at)
    select 'default', id, case when id % 1000 = 0 then 'error' when id % 1000 = 1 then 'processing' else 'idle' end,
      now() - id * interval '1 second', case when id % 1000 = 1 then gen_random_uuid() end,
      case when id % 1000 = 1 then now() end, case when id % 1000 = 1 then now() + interval '1 minute' end
    from waemitter.contacts
    """,
    """
    insert into waemitter.message_buffer (conversation_id, status, closes_at, created_at, processed_at)
    select id, case when id % 1000 = 2 then 'open' else 'completed' end, case when id % 1000 = 2 then now() end,
      now() - id * interval '1 minute', case when id % 1000 <> 2 then now() - id * interval '1 minute' end
    from waemitter.conversations
    """,
    """
    insert into waemitter.buffered_messages (buffer_id, whatsapp_message_id, message_type, payload)
    select id, 'wamid.' || id, 'text', '{}' from waemitter.message_buffer
    """,
    """
    insert into waemitter.buffer_processing_jobs (buffer_id, status)
    select id, case when id % 1000 = 3 then 'failed' else 'completed' end from waemitter.message_buffer
    """,
    """
    insert into waemitter.user_sessions (channel, contact_id, phone_number, last_interaction)
    select 'default', id, phone, now() - id * interval '1 minute' from waemitter.contacts
    """,
    """
    insert into waemitter.processed_webhook_messages (whatsapp_message_id, field)
    select 'wamid.' || n, 'messages' from generate_series(1, 20000) n
    """,
    """
    insert into waemitter.dead_letters (direction, stage, payload, error, next_retry_at, resolution_status)
    select 'inbound', 'handler', '{}', 'e', case when n % 1000 = 0 then now() - interval '1 minute' end,
      case when n % 1000 = 0 then 'pending' else 'resolved' end from generate_series(1, 20000) n
    """,
)

ASKED: Final = {
    "a user's conversation": (
        """
        select * from waemitter.webhook_conversations
        where user_id = '14150000500' and status = 'idle' order by updated_at desc
        """,
        {"contacts_users", "conversations_contacts"},
    ),
    "active conversations, the latest first": (
        "select * from waemitter.conversations where status = 'error' order by updated_at desc",
        {"conversations_active"},
    ),
    "locks that ran out": (
        "select id from waemitter.conversations where lock_id is not null and lock_expires_at <= now()",
        {"conversations_locked"},
    ),
    "letters that are due": (
        "select id from waemitter.webhook_dlq where next_retry_at <= now() and resolution_status = 'pending'",
        {"dead_letters_due"},
    ),
    "a message's key": (
        "select * from waemitter.processed_webhook_messages where whatsapp_message_id = 'wamid.77'",
        {"processed_webhook_messages_pkey"},
    ),
    "windows that are due": (
        "select id from waemitter.message_buffer where closes_at <= now() order by closes_at, id limit 16",
        {"message_buffer_due"},
    ),
    "a conversation's open window": (
        "select id from waemitter.message_buffer where conversation_id = 1002 and status = 'open'",
        {"message_buffer_open"},
    ),
    "a conversation's unfinished turns": (
        "select id from waemitter.message_buffer where conversation_id = 1002 and closes_at is not null order by id",
        {"message_buffer_unfinished"},
    ),
    "a turn's messages": (
        "select payload from waemitter.buffered_messages where buffer_id = 77 order by sent_at, id",
        {"buffered_messages_buffers"},
    ),
    "failed jobs": (
        "select * from waemitter.buffer_processing_jobs where status = 'failed' order by created_at desc",
        {"buffer_processing_jobs_failed"},
    ),
    "the last hour's windows": (
        "select count(*) from waemitter.message_buffer where created_at > now() - interval '1 hour'",
        {"message_buffer_created"},
    ),
    "turns to be deleted": (
        "select id from waemitter.message_buffer where processed_at < now() - interval '13 days' and closes_at is null",
        {"message_buffer_processed"},
    ),
    "stale sessions": (
        "select id from waemitter.user_sessions where last_interaction < now() - interval '13 days'",
        {"user_sessions_interactions"},
    ),
    "a number's session": (
        "select * from waemitter.user_sessions where phone_number = '+14150000500'",
        {"user_sessions_phones"},
    ),
}


def scans(plan: dict[str, Any]) -> list[tuple[str, str | None]]:
    found = [(plan["Node Type"], plan.get("Index Name"))]
    for below in plan.get("Plans", []):
        found += scans(below)
    return found


async def test_each_question_has_its_index(connection: Connection) -> None:
    for statement in FILL:
        await connection.execute(statement)
    await connection.execute("analyze")

    for name, (statement, indexes) in ASKED.items():
        (told,) = json.loads(await connection.fetchval(f"explain (format json) {statement}"))
        nodes = scans(told["Plan"])
        assert "Seq Scan" not in {kind for kind, _ in nodes}, name
        assert {index for _, index in nodes if index} == indexes, name


@pytest.mark.parametrize("name", ["message_buffer", "conversations", "user_sessions"])
async def test_what_changes_with_each_message_leaves_room_for_it(
    connection: Connection, name: str
) -> None:
    options = await connection.fetchval(
        "select reloptions from pg_class where oid = $1::text::regclass", f"waemitter.{name}"
    )

    assert "fillfactor=70" in options


GROWN: Final = (
    """
    insert into waemitter.contacts (channel, wa_id) select 'default', (14150000000 + n)::text from generate_series(1, 5000) n
    """,
    """
    insert into waemitter.conversations (channel, contact_id) select 'default', id from waemitter.contacts
    on conflict do nothing
    """,
    """
    insert into waemitter.inbound_messages (conversation_id, whatsapp_message_id, message_type, payload)
    select id, 'wamid.old.' || id, 'text', '{}' from waemitter.conversations
    """,
    """
    insert into waemitter.message_buffer (conversation_id, status, processed_at)
    select id, 'completed', now() from waemitter.conversations
    """,
)
READ: Final = """
    select sum(idx_tup_fetch + seq_tup_read)::bigint from pg_stat_xact_user_tables
    where relname in ('contacts', 'conversations', 'inbound_messages', 'message_buffer')
"""


async def hear(connection: Connection, batch: str, senders: range) -> None:
    """What the splitter does with the messages of a batch."""
    heard = [
        Inbound(
            number=NUMBER,
            wamid=f"wamid.{batch}.{n}",
            type="text",
            wa_id=str(14150000000 + n),
            user_id=None,
            group_id=None,
            name=None,
            username=None,
            sent_at=None,
            opens=True,
            payload="{}",
            contact=None,
            webhook_id=1,
        )
        for n in senders
    ]
    alone = cast("Any", connection)  # there is no pool, and nobody asks for one
    received = await InboxStore(alone).receive(alone, heard)
    placed = [
        Placed(each.message_id, 60.0, 0.0, 100, sliding=False, at_once=False)
        for each in received
        if each.message_id is not None
    ]
    assert len(placed) == len(senders)
    await GatheringStore().gather(alone, placed, rate=1000, enhanced=None)


async def test_what_comes_in_is_not_looked_for_from_end_to_end_by_plans_of_empty_tables(
    connection: Connection,
) -> None:
    await connection.execute("update waemitter.channels set phone_number_id = $1", NUMBER)
    for table in ("contacts", "conversations", "inbound_messages", "message_buffer"):
        await connection.execute(f"alter table waemitter.{table} set (autovacuum_enabled = off)")
        await connection.execute(f"vacuum analyze waemitter.{table}")
    for n in range(6):
        async with connection.transaction():
            await hear(connection, str(n), range(1))
    for statement in GROWN:
        await connection.execute(statement)
    async with connection.transaction():
        before = await connection.fetchval(READ)
        await hear(connection, "grown", range(1, 51))
        read = await connection.fetchval(READ) - before
    assert 50 <= read <= 50 * 50
