"""Dead letters: the table, the older names for its inbound half, and retention."""

from __future__ import annotations

from typing import Any

import pytest

from tests.outbox_rows import ago, ahead
from waemitter.db.schema import Connection

INSERT = """
    insert into waemitter.dead_letters (direction, stage, payload, error, stack, whatsapp_message_id, contact, next_retry_at)
    values ($1, 'split', '{"from": "14155550123"}', 'it broke', 'line 1', $2, '14155550123', $3) returning id
"""


async def letter(connection: Connection, direction: str = "inbound", wamid: str = "wamid.1") -> int:
    found: int = await connection.fetchval(INSERT, direction, wamid, ahead(3600))
    return found


async def row(connection: Connection, letter_id: int) -> Any:
    return await connection.fetchrow(
        "select * from waemitter.dead_letters where id = $1", letter_id
    )


async def test_a_retry_is_due_as_soon_as_the_runbook_says_so(connection: Connection) -> None:
    mine, done = await letter(connection), await letter(connection, wamid="wamid.2")
    outbound = await letter(connection, "outbound", wamid="wamid.3")
    await connection.execute(
        "update waemitter.dead_letters set resolution_status = 'resolved' where id = $1", done
    )
    await connection.execute("set search_path = waemitter")

    await connection.execute(
        "UPDATE webhook_dlq SET next_retry_at = NOW() WHERE resolution_status = 'pending'"
    )

    due = await connection.fetch(
        "select id from dead_letters where next_retry_at <= clock_timestamp() and resolution_status = 'pending'"
    )
    assert [record["id"] for record in due] == [mine]
    assert (await row(connection, outbound))["next_retry_at"] > ahead(3000)


async def test_the_runbooks_queries_work_as_they_are_written(connection: Connection) -> None:
    await letter(connection)
    await connection.execute("set search_path = waemitter")

    by_error = await connection.fetch(
        "SELECT error, COUNT(*) FROM webhook_dlq GROUP BY error ORDER BY COUNT(*) DESC"
    )
    by_message = await connection.fetch(
        "SELECT * FROM webhook_dlq WHERE whatsapp_message_id = 'wamid.1'"
    )
    size = await connection.fetchval(
        "SELECT COUNT(*) FROM wa_dead_letter_queue WHERE processed = false"
    )
    summary = await connection.fetchrow("SELECT * FROM webhook_dlq_summary")

    assert [tuple(record) for record in by_error] == [("it broke", 1)]
    assert by_message[0]["resolution_status"] == "pending"
    assert size == 1
    assert summary is not None
    assert (summary["resolution_status"], summary["count"], summary["due"]) == ("pending", 1, 0)


async def test_the_older_queue_shows_and_changes_the_same_letters(connection: Connection) -> None:
    mine = await letter(connection)
    view = "waemitter.wa_dead_letter_queue"

    await connection.execute(
        f"update {view} set retry_count = retry_count + 1, next_retry_at = $1", ago(1)
    )
    before = await connection.fetchrow(f"select * from {view}")
    await connection.execute(f"update {view} set processed = true")
    after = await row(connection, mine)

    assert before is not None
    assert (before["message_id"], before["from_number"]) == ("wamid.1", "14155550123")
    assert (before["error_message"], before["error_stack"]) == ("it broke", "line 1")
    assert (before["retry_count"], before["processed"], before["processed_at"]) == (1, False, None)
    assert (after["resolution_status"], after["retry_count"]) == ("resolved", 1)
    assert after["resolved_at"] is not None

    await connection.execute(f"update {view} set processed = false")
    again = await row(connection, mine)
    assert (again["resolution_status"], again["resolved_at"]) == ("pending", None)


@pytest.mark.parametrize("word", ["resolved", "abandoned", "discarded"])
async def test_a_letter_that_ended_is_due_no_more(connection: Connection, word: str) -> None:
    mine = await letter(connection)

    await connection.execute(
        "update waemitter.webhook_dlq set resolution_status = $1 where id = $2", word, mine
    )

    ended = await row(connection, mine)
    assert (ended["resolution_status"], ended["next_retry_at"]) == (word, None)
    assert ended["resolved_at"] is not None


async def test_retention_deletes_in_batches_what_ended_and_nothing_that_is_pending(
    connection: Connection,
) -> None:
    old = [await letter(connection) for _ in range(3)]
    pending, fresh = await letter(connection), await letter(connection)
    await connection.execute(
        "update waemitter.dead_letters set resolution_status = 'abandoned' where id <> $1", pending
    )
    await connection.execute(
        "alter table waemitter.dead_letters disable trigger dead_letter_trigger"
    )
    await connection.execute(
        "update waemitter.dead_letters set updated_at = now() - interval '8 days' where id <> $1",
        fresh,
    )

    deleted = [
        await connection.fetchval(
            "select waemitter.purge_dead_letters(older_than => '7 days', max_rows => 2)"
        )
        for _ in range(3)
    ]

    left = await connection.fetch("select id from waemitter.dead_letters order by id")
    assert deleted == [2, 1, 0]
    assert [record["id"] for record in left] == [pending, fresh]
    assert old
