"""The outbox as its tests drive it: rows put in and shifted in time, claims, settlements and statuses by short names."""

from __future__ import annotations

import datetime
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import asyncpg

from waemitter.db.schema import Connection
from waemitter.outbox.message import Attempt
from waemitter.outbox.retry import Decision, Outcome
from waemitter.outbox.store import Applied, Claimed, OutboxStore, Settled, Settlement, StatusUpdate

GRACE: Final = 60.0
LEASE: Final = 15.0
RECEIVING: Final = """
    update waemitter.inbox_health
    set seen_at = clock_timestamp() + interval '1 hour', since = clock_timestamp() - interval '1 year',
        away_at = clock_timestamp() - interval '1 year'
"""
"""A daemon receives webhooks, and always did."""


def now() -> datetime.datetime:
    """The servers of the tests run on this machine, so their clock is ours."""
    return datetime.datetime.now(datetime.UTC)


def ago(seconds: float) -> datetime.datetime:
    return now() - datetime.timedelta(seconds=seconds)


def ahead(seconds: float) -> datetime.datetime:
    return ago(-seconds)


def status(
    word: str,
    attempt: Attempt | None = None,
    *,
    wamid: str | None = None,
    at: datetime.datetime | None = None,
    **more: Any,
) -> StatusUpdate:
    """One status of Meta's; with an attempt, it carries that attempt's echo."""
    blank = StatusUpdate(None, None, wamid, word, at or now(), None, None, None, None)
    if attempt is not None:
        blank = blank._replace(message_id=attempt.id, token=attempt.token)
    return blank._replace(**more)


@dataclass(frozen=True, slots=True)
class Outbox:
    pool: asyncpg.Pool[asyncpg.Record]
    store: OutboxStore

    async def put(self, **columns: Any) -> int:
        """Insert a row, as an application would; due at once and alone in its lane unless told otherwise."""
        columns = {
            "recipient": "+14155550123",
            "message_type": "text",
            "payload": '{"text": {"body": "Hello"}}',
            "ordering_key": "",
        } | columns
        places = ", ".join(f"${place}" for place in range(1, len(columns) + 1))
        message_id: int = await self.pool.fetchval(
            f"insert into waemitter.outbox_messages ({', '.join(columns)}) values ({places}) returning id",
            *columns.values(),
        )
        return message_id

    async def put_many(self, count: int, **columns: Any) -> list[int]:
        return [await self.put(**columns) for _ in range(count)]

    async def row(self, message_id: int) -> asyncpg.Record:
        record = await self.pool.fetchrow(
            "select * from waemitter.outbox_messages where id = $1", message_id
        )
        assert record is not None
        return record

    async def change(self, message_id: int, **columns: Any) -> None:
        """An operator's own UPDATE; and the way in which tests let time pass."""
        columns_set = ", ".join(f"{name} = ${place}" for place, name in enumerate(columns, 2))
        await self.pool.execute(
            f"update waemitter.outbox_messages set {columns_set} where id = $1",
            message_id,
            *columns.values(),
        )

    async def channel(self, name: str = "default", **columns: Any) -> None:
        await self.pool.execute(
            "insert into waemitter.channels (name) values ($1) on conflict do nothing", name
        )
        for column, value in columns.items():
            await self.pool.execute(
                f"update waemitter.channels set {column} = $2 where name = $1", name, value
            )

    async def claim(
        self,
        limit: int = 100,
        *,
        channel: str = "default",
        policy: str = "retry",
        retries: int = 5,
        store: OutboxStore | None = None,
    ) -> Claimed:
        return await (store or self.store).claim(
            channel,
            limit=limit,
            lease=datetime.timedelta(seconds=LEASE),
            horizon=datetime.timedelta(seconds=0.2),
            grace=datetime.timedelta(seconds=GRACE),
            policy=policy,
            retries=retries,
        )

    async def claim_ids(self, limit: int = 100, **more: Any) -> list[int]:
        """In the order in which they may leave."""
        attempts = (await self.claim(limit, **more)).attempts
        return [attempt.id for attempt in sorted(attempts, key=lambda each: each.slot)]

    async def claim_one(self, **more: Any) -> Attempt:
        (attempt,) = (await self.claim(**more)).attempts
        return attempt

    async def settle(
        self, attempt: Attempt, outcome: Outcome = Outcome.SENT, **decision: Any
    ) -> Settled:
        return await self.settle_all([attempt], outcome, **decision)

    async def settle_all(
        self, attempts: Sequence[Attempt], outcome: Outcome = Outcome.SENT, **decision: Any
    ) -> Settled:
        """`sent` brings a wamid of its own, unless one is given."""
        settlements = []
        for attempt in attempts:
            given = dict(decision)
            if outcome is Outcome.SENT:
                given.setdefault("wamid", f"wamid.{attempt.id}.{attempt.number}")
            settlements.append(Settlement(attempt.id, attempt.token, Decision(outcome, **given)))
        return await self.store.settle(settlements)

    async def apply(self, *updates: StatusUpdate) -> Applied:
        async with self.pool.acquire() as connection, connection.transaction():
            return await self.store.apply_statuses(connection, updates)

    async def receiving(
        self, *, since: float = 1e7, gap: float = 0.0, seen: float = -3600.0, unread: float = -1.0
    ) -> None:
        """The inbox's health, in seconds ago: last seen, without a gap since, that gap's length; `unread`: a webhook's age."""
        await self.pool.execute(
            "update waemitter.inbox_health set seen_at = $1, since = $2, away_at = $3",
            ago(seen), ago(since), ago(since + gap),
        )  # fmt: skip
        await self.pool.execute("delete from waemitter.webhook_logs")
        if unread >= 0:
            await self.pool.execute(
                "insert into waemitter.webhook_logs (source, body, created_at) values ('whatsapp', '{}', $1)",
                ago(unread),
            )

    async def late(self, attempt: Attempt) -> Applied:
        """Meta accepted the attempt, and its answer is settled when another attempt has the row."""
        accepted = Decision(Outcome.SENT, wamid=f"wamid.{attempt.id}.{attempt.number}")
        settlement = Settlement(attempt.id, attempt.token, accepted)
        assert (await self.store.settle([settlement])).stale == [attempt.id]
        return await self.store.answered_late([settlement])

    async def lose(self, attempt: Attempt, *, policy: str = "retry") -> None:
        """Let the attempt's lease run out, and a claim find it."""
        await self.change(attempt.id, available_at=ago(1))
        claimed = await self.claim(policy=policy)
        assert claimed.lost == 1

    async def events(self, message_id: int) -> list[tuple[str, str]]:
        found = await self.store.get(message_id)
        assert found is not None
        return [(event["from_status"], event["to_status"]) for event in found[1]]


@asynccontextmanager
async def outbox_at(
    dsn: str,
    *,
    role: str | None = None,
    init: Callable[[Connection], Coroutine[Any, Any, None]] | None = None,
) -> AsyncIterator[Outbox]:
    """The outbox of a database, as seen by a role; its only channel has no limits, webhooks are received.

    `init`: of each connection.
    """
    settings = {"role": role} if role else {}
    pool = asyncpg.create_pool(dsn, min_size=1, max_size=6, server_settings=settings, init=init)
    async with pool:
        await pool.execute(
            "update waemitter.channels set messages_per_second = 0, pair_seconds = 0"
        )
        await pool.execute(RECEIVING)
        yield Outbox(pool, OutboxStore(pool))
