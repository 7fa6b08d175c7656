"""Journalled webhooks become statuses of messages, each once, whatever else their batch holds."""

from __future__ import annotations

import asyncio
import datetime
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import asyncpg
import orjson
import pytest

from tests.observing import Observed, observing
from waemitter.db.embedded import EmbeddedPostgres
from waemitter.errors import DatabaseUnreachable
from waemitter.inbox.journal.records import Entry
from waemitter.inbox.journal.store import JournalStore
from waemitter.inbox.splitter import AT_ONCE, Splitter
from waemitter.inbox.store import InboxStore
from waemitter.outbox.message import Echo
from waemitter.outbox.store import OutboxStore

LEASE = datetime.timedelta(seconds=60)


@dataclass
class Bench:
    """A splitter over a real database, and one message whose attempt is in flight."""

    pool: asyncpg.Pool[asyncpg.Record]
    inbox: InboxStore
    journalled: JournalStore
    splitter: Splitter
    observed: Observed
    freed: list[bool]

    async def message(self, *, recipient: str = "+14155550123") -> Echo:
        await self.pool.execute("select waemitter.send_text($1, 'hello')", recipient)
        claimed = await OutboxStore(self.pool).claim(
            "default",
            limit=1,
            lease=LEASE,
            horizon=datetime.timedelta(seconds=0.2),
            grace=LEASE,
            policy="retry",
            retries=5,
        )
        (attempt,) = claimed.attempts
        return Echo(attempt.id, attempt.token, "order-17")

    async def journal(self, *bodies: bytes) -> None:
        await self.journalled.append([Entry("whatsapp", body, "{}") for body in bodies])

    async def split(self) -> None:
        while rows := (await self.splitter.claim(1)).rows:
            for row in rows:
                await self.splitter.work(row)

    async def status_of(self, message_id: int) -> str:
        status: str = await self.pool.fetchval(
            "select status from waemitter.outbox_messages where id = $1", message_id
        )
        return status

    async def unprocessed(self) -> int:
        count: int = await self.pool.fetchval(
            "select count(*) from waemitter.webhook_logs where processed_at is null"
        )
        return count


@pytest.fixture
async def bench(dsn: str) -> AsyncIterator[Bench]:
    async with opened(dsn) as bench:
        yield bench


@asynccontextmanager
async def opened(dsn: str) -> AsyncIterator[Bench]:
    freed: list[bool] = []
    async with asyncpg.create_pool(dsn, min_size=1, max_size=3) as pool:
        with observing() as observed:
            inbox = InboxStore(pool)
            splitter = Splitter(
                inbox,
                OutboxStore(pool),
                events=observed.events,
                lanes_freed=lambda: freed.append(True),
                clock=lambda: 0.0,
            )
            yield Bench(pool, inbox, JournalStore(pool), splitter, observed, freed)


def webhook(*statuses: object, **value: object) -> bytes:
    change = {"field": "messages", "value": {"statuses": list(statuses), **value}}
    return orjson.dumps(
        {"object": "whatsapp_business_account", "entry": [{"id": "1", "changes": [change]}]}
    )


def status(word: str, echo: Echo | None, **more: object) -> dict[str, object]:
    wamid = f"wamid.{hashlib.sha256(str(echo).encode()).hexdigest()}"
    told = {"id": wamid, "status": word, "timestamp": "1793700441", "recipient_id": "14155550123"}
    if echo is not None:
        told["biz_opaque_callback_data"] = echo.text()
    return {**told, **more}


async def test_a_status_finds_its_message_by_the_echo_and_its_webhook_is_done(bench: Bench) -> None:
    echo = await bench.message()
    await bench.journal(webhook(status("sent", echo)), webhook(status("delivered", echo)))
    await bench.split()
    assert await bench.status_of(echo.message_id) == "delivered"
    assert await bench.unprocessed() == 0
    assert bench.observed.value("status_updates_total", status="delivered", result="applied") == 1


async def test_the_log_names_the_message_and_its_correlation_id_and_no_number(bench: Bench) -> None:
    echo = await bench.message()
    failed = {"code": 131026, "title": "Message undeliverable"}
    await bench.journal(webhook(status("failed", echo, errors=[failed])))
    await bench.split()
    (line,) = bench.observed.lines("STATUS_HEARD")
    assert (line["message_id"], line["correlation_id"]) == (echo.message_id, "order-17")
    assert line["error_code"] == 131026
    assert "4155550123" not in bench.observed.text()


async def test_a_body_that_is_no_webhook_is_told_of_and_harms_nobody(bench: Bench) -> None:
    echo = await bench.message()
    await bench.journal(b"\x00\xff", b"[]", webhook({"status": "sent"}, status("sent", echo)))
    await bench.split()
    assert await bench.status_of(echo.message_id) == "sent"
    assert await bench.unprocessed() == 0
    assert len(bench.observed.lines("WEBHOOK_MALFORMED")) == 3


async def test_a_status_that_the_database_refuses_fails_alone(bench: Bench) -> None:
    echo = await bench.message()
    poison = webhook(status("sent", None, id="wamid.\x00"))  # Postgres has no NUL in text
    await bench.journal(webhook(status("sent", echo)), poison, webhook(status("read", echo)))
    await bench.split()
    assert await bench.status_of(echo.message_id) == "read"
    assert await bench.unprocessed() == 1
    row = await bench.pool.fetchrow(
        "select error, attempts, available_at > now() as waits from waemitter.webhook_logs"
        " where processed_at is null"
    )
    assert row is not None
    assert (row["attempts"], row["waits"]) == (1, True)
    assert row["error"].endswith("it could not be applied")


async def test_what_cannot_be_applied_is_tried_three_times_and_then_kept(bench: Bench) -> None:
    await bench.journal(webhook(status("sent", None, id="wamid.\x00")))
    for _ in range(3):
        await bench.pool.execute("update waemitter.webhook_logs set available_at = now()")
        await bench.split()
    row = await bench.pool.fetchrow("select attempts, available_at from waemitter.webhook_logs")
    assert row is not None
    assert tuple(row) == (3, None)


async def test_more_statuses_than_fit_one_statement_are_all_applied(bench: Bench) -> None:
    echo = await bench.message()
    strangers = [status("sent", None, id=f"wamid.{n}") for n in range(AT_ONCE * 2)]
    await bench.journal(webhook(*strangers, status("read", echo)))
    await bench.split()
    assert await bench.status_of(echo.message_id) == "read"
    parked = bench.observed.value("status_updates_total", status="sent", result="parked")
    assert parked == AT_ONCE * 2


async def test_a_status_that_frees_a_lane_rings_for_the_next_message(bench: Bench) -> None:
    echo = await bench.message()
    await bench.pool.execute("select waemitter.send_text('+14155550123', 'second')")
    store = OutboxStore(bench.pool)
    claim = {"lease": LEASE, "horizon": LEASE, "grace": LEASE, "policy": "retry", "retries": 5}
    claimed = await store.claim("default", limit=5, **claim)  # type: ignore[arg-type] # by name
    assert claimed.attempts == []  # parked behind the first
    await bench.journal(webhook(status("sent", echo)))
    await bench.split()
    assert bench.freed == [True]


async def test_calls_and_payments_have_statuses_that_are_no_message_s(bench: Bench) -> None:
    echo = await bench.message()
    await bench.journal(webhook(status("failed", echo, type="payment")))
    await bench.split()
    assert await bench.status_of(echo.message_id) == "sending"


async def test_a_batch_that_a_daemon_died_with_is_worked_on_again(bench: Bench) -> None:
    echo = await bench.message()
    await bench.journal(webhook(status("sent", echo)))
    assert (await bench.splitter.claim(1)).rows  # and it dies
    assert not (await bench.splitter.claim(1)).rows
    await bench.pool.execute("update waemitter.webhook_logs set available_at = now()")
    await bench.split()
    assert await bench.status_of(echo.message_id) == "sent"


async def test_without_a_database_the_batch_waits_for_its_lease(
    own_postgres: EmbeddedPostgres,
) -> None:
    async with opened(own_postgres.dsn("waemitter")) as bench:
        await bench.journal(webhook(status("sent", None)))
        (row,) = (await bench.splitter.claim(1)).rows
        await asyncio.to_thread(own_postgres.stop, "immediate")
        await bench.splitter.work(row)
        assert bench.observed.events.database_away
        with pytest.raises(DatabaseUnreachable):
            await bench.inbox.next_due()
