"""Statuses that came before anybody knew their message: kept for a while, applied when it is known, then dropped."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests import inbox_bench
from tests.inbox_bench import opened, webhook
from tests.observing import Observed, observing
from tests.outbox_rows import Outbox, outbox_at, status
from waemitter.inbox.failures import Failures
from waemitter.inbox.parked import EVERY, ParkedStatuses
from waemitter.inbox.store import InboxStore
from waemitter.outbox.channels.store import ChannelStore
from waemitter.outbox.letters.store import LetterStore
from waemitter.outbox.retry import Patience
from waemitter.outbox.store import OutboxStore
from waemitter.whatsapp.errors import classify_status_error


@pytest.fixture
async def outbox(dsn: str) -> AsyncIterator[Outbox]:
    async with outbox_at(dsn) as outbox:
        yield outbox


def again_of(outbox: Outbox, observed: Observed) -> ParkedStatuses:
    return ParkedStatuses(
        InboxStore(outbox.pool),
        OutboxStore(outbox.pool),
        Failures(
            LetterStore(outbox.pool),
            ChannelStore(outbox.pool),
            events=observed.events,
            patience=Patience(max_attempts=5, delays=(60.0, 120.0), grace=60),
            jitter=lambda: 1.0,
            requeued=lambda: None,
        ),
        events=observed.events,
        lanes_freed=lambda: None,
    )


async def try_again(outbox: Outbox, *, rows: int = 100) -> tuple[dict[str, float], bool]:
    """What became of which word; whether any wait."""
    with observing() as observed:
        waiting = await again_of(outbox, observed).retry(rows)
        counts = {}
        for word in ("sent", "delivered", "failed"):
            for result in ("applied", "stale", "unknown"):
                name = "status_updates_total"
                if count := observed.value(name, status=word, result=result):
                    counts[f"{word} {result}"] = count
        return counts, waiting


async def test_a_status_that_came_before_the_wamid_was_stored_is_applied_once_it_is(
    outbox: Outbox,
) -> None:
    await outbox.put()
    attempt = await outbox.claim_one()
    await outbox.apply(status("failed", wamid="wamid.early", code=131026))  # without our echo
    await outbox.apply(status("delivered", wamid="wamid.early"))
    assert await try_again(outbox) == ({}, True)
    await outbox.settle(attempt, wamid="wamid.early")
    assert await try_again(outbox) == ({"delivered applied": 1, "failed applied": 1}, False)
    assert (await outbox.row(attempt.id))["status"] == "delivered"


async def test_what_stays_unknown_is_dropped_and_told(outbox: Outbox) -> None:
    await outbox.apply(status("sent", wamid="wamid.of.another.app"))
    assert await try_again(outbox) == ({}, True)
    await outbox.pool.execute(
        "update waemitter.parked_statuses set parked_at = now() - interval '16 minutes'"
    )
    assert await try_again(outbox) == ({"sent unknown": 1}, False)


async def test_the_same_status_is_parked_once(outbox: Outbox) -> None:
    for _ in range(3):
        await outbox.apply(*[status("sent", wamid="wamid.of.another.app")] * 2)
    assert await outbox.pool.fetchval("select count(*) from waemitter.parked_statuses") == 1


async def test_a_word_unknown_here_is_not_parked(outbox: Outbox) -> None:
    applied = await outbox.apply(status("teleported", wamid="wamid.of.another.app"))
    assert applied.counts == {("teleported", "unknown"): 1}
    assert await outbox.pool.fetchval("select count(*) from waemitter.parked_statuses") == 0


async def test_no_more_are_applied_at_once_than_asked(outbox: Outbox) -> None:
    for number in range(3):
        await outbox.apply(status("sent", wamid=f"wamid.{number}"))
        await outbox.put()
        await outbox.settle(await outbox.claim_one(), wamid=f"wamid.{number}")
    assert (await try_again(outbox, rows=2))[1]
    assert not (await try_again(outbox, rows=2))[1]


async def early_failure(outbox: Outbox, code: int) -> int:
    """A failure that came before its message was known; the message's id."""
    await outbox.put()
    attempt = await outbox.claim_one()
    await outbox.apply(status("failed", wamid="wamid.early", code=code))
    await outbox.settle(attempt, wamid="wamid.early")
    return attempt.id


async def test_a_failure_that_may_pass_is_sent_again_however_early_it_came(outbox: Outbox) -> None:
    message = await early_failure(outbox, 131000)
    await try_again(outbox)
    assert (await outbox.row(message))["status"] == "queued"
    assert await outbox.pool.fetchval("select count(*) from waemitter.dead_letters") == 0


@pytest.mark.parametrize("code", [131026, 131047, 131050, 132016])
async def test_the_letter_of_an_early_failure_has_the_class_of_its_code(
    outbox: Outbox, code: int
) -> None:
    message = await early_failure(outbox, code)
    await try_again(outbox)
    assert (await outbox.row(message))["status"] == "failed"
    letter = await outbox.pool.fetchrow("select * from waemitter.dead_letters")
    assert letter is not None
    assert (letter["message_id"], letter["error_code"]) == (message, code)
    assert letter["error_class"] == str(classify_status_error([{"code": code}]).error_class)


async def test_the_daemon_looks_again_while_any_wait_and_tells_what_became_of_them(
    dsn: str,
) -> None:
    async with opened(dsn) as bench:
        freed: list[bool] = []
        again = ParkedStatuses(
            bench.inbox,
            OutboxStore(bench.pool),
            bench.splitter._effects._failures,
            events=bench.observed.events,
            lanes_freed=lambda: freed.append(True),
        )
        assert (await again.claim(1)).next_due is None
        echo = await bench.message()
        await bench.pool.execute("select waemitter.send_text('+14155550123', 'behind it')")
        await bench.pool.execute(  # what a claim does with the second of a lane
            "update waemitter.outbox_messages set available_at = 'infinity', due_at = now(), hold = 'lane'"
            " where id <> $1",
            echo.message_id,
        )
        await bench.journal(webhook(inbox_bench.status("delivered", None, id="wamid.early")))
        await bench.split()
        assert bench.parked == [True]
        assert (await again.claim(1)).next_due == EVERY
        await bench.pool.execute(
            "update waemitter.outbox_messages set whatsapp_message_id = 'wamid.early' where id = $1",
            echo.message_id,
        )
        assert (await again.claim(1)).next_due is None
        assert await bench.status_of(echo.message_id) == "delivered"
        assert freed == [True]
        for result in ("parked", "applied"):
            told = bench.observed.value("status_updates_total", status="delivered", result=result)
            assert told == 1
