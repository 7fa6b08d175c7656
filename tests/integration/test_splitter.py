"""Journalled webhooks become statuses of messages, each once, whatever else their batch holds."""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import AsyncIterator, Awaitable, Callable

import orjson
import pytest

from tests.inbox_bench import LEASE, Bench, opened, status, webhook
from tests.support import eventually
from waemitter.db.embedded import EmbeddedPostgres
from waemitter.errors import DatabaseUnreachable
from waemitter.inbox.splitter import AT_ONCE, TRIES
from waemitter.outbox.store import OutboxStore
from waemitter.whatsapp.webhooks import Status, parse


@pytest.fixture
async def bench(dsn: str) -> AsyncIterator[Bench]:
    async with opened(dsn) as bench:
        yield bench


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


async def refuse(bench: Bench, table: str, condition: str) -> None:
    """Let the database refuse rows, as it would for a reason that nobody thought of."""
    await bench.pool.execute(
        "create function refuse() returns trigger language plpgsql as"
        " $$ begin raise exception 'refused' using errcode = 'data_exception'; end $$"
    )
    await bench.pool.execute(
        f"create trigger refuse before insert on waemitter.{table} for each row"
        f" when ({condition}) execute function refuse()"
    )


async def test_an_item_that_the_database_refuses_becomes_a_dead_letter_alone(bench: Bench) -> None:
    await refuse(bench, "parked_statuses", "new.wamid = 'wamid.poison'")
    echo = await bench.message()
    poison = status("sent", None, id="wamid.poison")
    neighbours = [status("sent", None, id=f"wamid.{n}") for n in range(50)]
    await bench.journal(
        webhook(status("sent", echo)),
        webhook(*neighbours[:25], poison, *neighbours[25:]),
        webhook(status("read", echo)),
    )
    await bench.split()
    assert await bench.status_of(echo.message_id) == "read"
    assert await bench.unprocessed() == 0
    assert await bench.pool.fetchval("select count(*) from waemitter.parked_statuses") == 50
    (letter,) = await bench.letters()
    assert (letter["stage"], letter["whatsapp_message_id"]) == ("split", "wamid.poison")
    assert letter["error"] == "DataError: refused"
    (item,) = parse(orjson.dumps(orjson.loads(letter["payload"])["webhook"]))
    assert isinstance(item, Status)
    assert item.raw == poison
    assert [line["error"] for line in bench.observed.lines("WEBHOOK_ITEM_FAILED")] == ["DataError"]


async def test_a_malformed_item_becomes_a_dead_letter_once(bench: Bench) -> None:
    body = webhook({"status": "sent"}, status("sent", None, id="w"))
    await bench.journal(body, body, b"no json")
    await bench.split()
    letters = await bench.letters()
    assert [letter["error"] for letter in letters] == [
        "a status without an id or without a word",
        "the webhook's body is no JSON: JSONDecodeError",
    ]
    assert orjson.loads(letters[0]["payload"])["webhook"]["malformed"] == {"status": "sent"}
    assert bench.observed.value("webhook_events_total", source="whatsapp", kind="duplicate") == 1


async def test_what_cannot_even_be_put_aside_is_tried_three_times_and_then_kept(
    bench: Bench,
) -> None:
    await refuse(bench, "dead_letters", "true")
    echo = await bench.message()
    await bench.journal(webhook(status("sent", echo)), webhook({}))
    for _ in range(3):
        await bench.split()
        await bench.pool.execute(
            "update waemitter.webhook_logs set available_at = now() where available_at > now()"
        )
    assert await bench.status_of(echo.message_id) == "sent"
    row = await bench.pool.fetchrow(
        "select attempts, available_at, error from waemitter.webhook_logs where processed_at is null"
    )
    assert row is not None
    assert tuple(row) == (3, None, "DataError: it could not be applied")


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


async def test_a_batch_is_kept_for_as_long_as_it_is_worked_on(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("waemitter.inbox.splitter.LEASE", datetime.timedelta(milliseconds=30))
    await bench.journal(webhook(status("sent", await bench.message())))
    (row,) = (await bench.splitter.claim(1)).rows
    leases = "select available_at from waemitter.webhook_logs where id = $1"
    first = await bench.pool.fetchval(leases, row[0].id)

    async def renewed() -> bool:
        return bool(await bench.pool.fetchval(leases, row[0].id) > first)

    condition: Callable[[], Awaitable[bool] | bool] = renewed

    async with bench.pool.acquire() as other:
        async with other.transaction():  # the work stands still behind this lock
            await other.execute("lock table waemitter.parked_statuses, waemitter.outbox_messages")
            working = asyncio.create_task(bench.splitter.work(row))
            await eventually(condition)
        await working
    assert await bench.unprocessed() == 0


async def test_a_lease_is_not_brought_back_once_its_webhook_is_done(bench: Bench) -> None:
    await bench.journal(webhook(status("sent", None)))
    (row,) = (await bench.splitter.claim(1)).rows
    await bench.splitter.work(row)
    await bench.inbox.renew([row[0].id], lease=LEASE)
    assert not (await bench.splitter.claim(1)).rows
    assert await bench.inbox.next_due() is None


async def test_what_an_outage_came_between_is_worked_on_as_soon_as_it_is_over(
    own_postgres: EmbeddedPostgres,
) -> None:
    async with opened(own_postgres.dsn("waemitter")) as bench:
        echo = await bench.message()
        await bench.journal(webhook(status("sent", echo)), webhook(status("delivered", echo)))
        (row,) = (await bench.splitter.claim(1)).rows
        await asyncio.to_thread(own_postgres.stop, "immediate")
        await bench.splitter.work(row)
        assert bench.observed.events.database_away
        with pytest.raises(DatabaseUnreachable):
            await bench.splitter.claim(1)
        await asyncio.to_thread(own_postgres.start)
        await bench.split()
        assert await bench.status_of(echo.message_id) == "delivered"
        assert await bench.unprocessed() == 0


async def test_a_lease_that_another_daemon_has_by_now_is_not_given_back(bench: Bench) -> None:
    await bench.journal(webhook(status("sent", None)))
    (mine,) = (await bench.splitter.claim(1)).rows
    await bench.pool.execute("update waemitter.webhook_logs set available_at = now()")
    (others,) = (await bench.splitter.claim(1)).rows
    assert others[0].id == mine[0].id
    await bench.inbox.give_back({mine[0].id: mine[0].attempts})
    assert not (await bench.splitter.claim(1)).rows
    await bench.inbox.give_back({others[0].id: others[0].attempts})
    assert (await bench.splitter.claim(1)).rows


async def test_a_webhook_that_brings_the_database_down_waits_for_its_lease(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: object) -> None:
        raise DatabaseUnreachable("the database is away")

    await bench.journal(webhook(status("sent", None)))
    monkeypatch.setattr(bench.splitter._effects, "apply", away)
    claims = 0
    while rows := (await bench.splitter.claim(1)).rows:
        claims += 1
        await bench.splitter.work(rows[0])
    assert claims == TRIES + 1
    assert await bench.unprocessed() == 1
