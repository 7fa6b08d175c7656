"""Thousands of settles, renewals and releases by workers whose time is over, while the right ones work: none has effect."""

from __future__ import annotations

import asyncio
import random
import uuid
from collections.abc import AsyncIterator, Sequence
from typing import Any, Final

import asyncpg
import pytest

from tests.outbox_rows import Outbox, ago, now, outbox_at, status
from waemitter.outbox.message import Attempt
from waemitter.outbox.retry import Decision, Outcome
from waemitter.outbox.store import Settlement

MESSAGES: Final = 300
STALE: Final = (
    *(Outcome.RETRY, Outcome.DEFER, Outcome.PAIR, Outcome.POSTPONE),
    *(Outcome.RELEASE, Outcome.FAILED, Outcome.UNCONFIRMED),
)  # fmt: skip
CONVERSATIONS: Final = 300
TURNS: Final = """
    with people as (
      insert into waemitter.contacts (channel, wa_id) select 'default', '1415555' || n from generate_series(1000, 999 + $1) n
      returning id),
    talks as (
      insert into waemitter.conversations (channel, contact_id) select 'default', id from people returning id)
    insert into waemitter.message_buffer (conversation_id, status) select id, 'processing' from talks
    returning id, conversation_id
"""
LOCKED: Final = "select * from waemitter.conversations order by id"


@pytest.fixture
async def outbox(dsn: str) -> AsyncIterator[Outbox]:
    async with outbox_at(dsn) as outbox:
        await outbox.channel(statuses_seen_at=now())
        yield outbox


async def test_two_thousand_stale_settles_have_no_effect(outbox: Outbox) -> None:
    dice = random.Random(118)
    await outbox.pool.execute(
        "insert into waemitter.outbox_messages (recipient, message_type, payload, ordering_key)"
        " select '+1415555' || n, 'text', '{}', '' from generate_series(1000, 999 + $1::integer) n",
        MESSAGES,
    )
    stale = (await outbox.claim(MESSAGES)).attempts
    overdue = "update waemitter.outbox_messages set available_at = $1"
    await outbox.pool.execute(overdue, ago(1))
    assert (await outbox.claim(MESSAGES)).lost == MESSAGES
    await outbox.pool.execute(overdue, ago(1))
    fresh = (await outbox.claim(MESSAGES)).attempts
    assert len(stale) == len(fresh) == MESSAGES

    late = [(attempt, outcome) for attempt in stale for outcome in STALE]
    dice.shuffle(late)
    refused = 0

    async def too_late(part: Sequence[tuple[Attempt, Outcome]]) -> None:
        nonlocal refused
        for few in _parts(part, 25):
            chosen = {attempt.id: (attempt, outcome) for attempt, outcome in few}
            settled = await outbox.store.settle(
                [
                    Settlement(attempt.id, attempt.token, Decision(outcome, delay=60.0, code=1))
                    for attempt, outcome in chosen.values()
                ]
            )
            assert sorted(settled.stale) == sorted(chosen)
            refused += len(chosen)

    async def in_time() -> None:
        for few in _parts(fresh, 10):
            assert (await outbox.settle_all(few)).stale == []
            await outbox.apply(*(status("delivered", attempt) for attempt in few[:5]))

    await asyncio.gather(in_time(), *(too_late(part) for part in _parts(late, len(late) // 4)))

    assert refused >= 1500
    rows = {
        row["id"]: row for row in await outbox.pool.fetch("select * from waemitter.outbox_messages")
    }
    for attempt in fresh:
        row = rows[attempt.id]
        assert row["status"] in {"sent", "delivered"}
        assert (row["token"], row["attempts"]) == (attempt.token, 2)
        assert row["whatsapp_message_id"] == f"wamid.{attempt.id}.2"
        assert (row["available_at"], row["error_code"]) == (None, None)
    assert await outbox.pool.fetchval("select count(*) from waemitter.dead_letters") == 0


async def test_stale_renewals_and_releases_of_conversations_have_no_effect(
    connection: asyncpg.Connection[asyncpg.Record], dsn: str
) -> None:
    turns = await connection.fetch(TURNS, CONVERSATIONS)
    old, new = uuid.uuid4(), uuid.uuid4()
    acquire = "select waemitter.acquire_conversation_lock(id, $1) from waemitter.conversations"
    assert all(row[0] for row in await connection.fetch(acquire, old))
    fences = {row["id"]: row["fence"] for row in await connection.fetch(LOCKED)}
    await connection.execute(
        "update waemitter.conversations set lock_expires_at = now() - interval '1 s'"
    )
    assert all(row[0] for row in await connection.fetch(acquire, new))
    before = await connection.fetch(LOCKED)

    async with asyncpg.create_pool(dsn, min_size=4, max_size=4) as pool:

        async def too_late(turn: asyncpg.Record) -> int:
            conversation, fence = turn["conversation_id"], fences[turn["conversation_id"]]
            calls: list[tuple[str, tuple[Any, ...]]] = [
                ("select waemitter.renew_turn($1, $2, $3, '1 hour')", (turn["id"], old, fence)),
                ("select waemitter.renew_turn($1, $2, $3, '1 hour')", (turn["id"], old, fence + 1)),
                ("select waemitter.renew_turn($1, $2, $3, '1 hour')", (turn["id"], new, fence)),
                ("select waemitter.hold_turn($1, $2, $3) is not null", (turn["id"], old, fence)),
                ("select waemitter.release_conversation_lock($1, $2)", (conversation, old)),
                ("select waemitter.acquire_conversation_lock($1, $2)", (conversation, old)),
            ]
            for statement, arguments in calls:
                assert await pool.fetchval(statement, *arguments) is False, statement
            return len(calls)

        done = await asyncio.gather(*(too_late(turn) for turn in turns))

    assert sum(done) >= 1500
    assert await connection.fetch(LOCKED) == before
    renew = "select waemitter.renew_turn($1, $2, $3, '1 hour')"
    turn = turns[0]
    assert await connection.fetchval(renew, turn["id"], new, fences[turn["conversation_id"]] + 1)


def _parts(sequence: Sequence[Any], size: int) -> list[Sequence[Any]]:
    return [sequence[n : n + size] for n in range(0, len(sequence), size)]
