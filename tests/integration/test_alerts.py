"""Alerts in the database and on their way: begun, told, told again, over, whichever daemon sees them; to a real receiver."""

from __future__ import annotations

import asyncio
import datetime
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import aiohttp
import asyncpg
import pytest

from tests.ear import Ear, hearing
from tests.observing import Observed, observing
from waemitter.jobs.alerts.away import Away
from waemitter.jobs.alerts.conditions import Observation
from waemitter.jobs.alerts.notifier import Notifier
from waemitter.jobs.alerts.receiver import Receiver
from waemitter.jobs.alerts.rules import Limits
from waemitter.jobs.alerts.store import AlertStore
from waemitter.jobs.alerts.watch import Watch
from waemitter.runtime.supervise import Stop
from waemitter.turns.store import TurnStore

Pool = asyncpg.Pool
TOKEN = "receiver-token"
LETTERS = Observation("WaemitterDeadLetters", 11)
PAUSED = Observation("WaemitterChannelPaused", 1, {"channel": "default", "reason": "pause_account"})
MINUTE = datetime.timedelta(minutes=1)


@pytest.fixture
async def ear() -> AsyncIterator[Ear]:
    async with hearing() as ear:
        yield ear


@pytest.fixture
async def pool(dsn: str) -> AsyncIterator[Pool]:
    async with asyncpg.create_pool(dsn, min_size=1, max_size=6) as pool:
        yield pool


@dataclass
class Desk:
    """One daemon's part in it."""

    pool: Pool
    store: AlertStore
    notifier: Notifier
    receiver: Receiver | None
    observed: Observed

    async def see(self, *observations: Observation) -> None:
        await self.store.observe(observations, lasting=MINUTE)

    async def held(self, name: str) -> None:
        """As if it had been so for an hour."""
        await self.pool.execute(
            "update waemitter.alerts set since = since - interval '1 hour' where name = $1", name
        )

    async def gone(self) -> None:
        """As if nobody had seen anything for a while."""
        await self.pool.execute(
            "update waemitter.alerts set seen_until = now() - interval '1 second'"
        )

    async def due(self) -> None:
        await self.pool.execute(
            "update waemitter.alerts set notify_at = now() where notify_at is not null"
        )


@asynccontextmanager
async def desk(pool: Pool, url: str | None) -> AsyncIterator[Desk]:
    with observing() as observed:
        async with aiohttp.ClientSession() as session:
            receiver = url and Receiver(
                session, url=url, token=TOKEN, external_url="https://your.host"
            )
            store = AlertStore(pool)
            notifier = Notifier(
                store,
                jobs=("retention",),
                every=30.0,
                repeat=14_400.0,
                receiver=receiver or None,
                events=observed.events,
                clock=time.monotonic,
            )
            yield Desk(pool, store, notifier, receiver or None, observed)


async def test_an_alert_is_told_when_it_held_long_enough_once_and_again_when_it_is_over(
    pool: Pool, ear: Ear
) -> None:
    async with desk(pool, ear.url) as at:
        await at.see(LETTERS)
        assert (await at.notifier.run())["firing"] == 0  # for less than a minute
        await at.held(LETTERS.name)
        first = await at.notifier.run()
        await at.see(LETTERS)
        second = await at.notifier.run()
        await at.gone()
        third = await at.notifier.run()
        fourth = await at.notifier.run()

        assert ear.told == [(LETTERS.name, "firing"), (LETTERS.name, "resolved")]
        assert [(run["firing"], run["sent"]) for run in (first, second, third, fourth)] == [
            (1, 1),
            (1, 0),
            (0, 1),
            (0, 0),
        ]
        assert ear.heard[0]["commonAnnotations"]["summary"] == "11 dead letters wait"
        assert ear.heard[0]["alerts"][0]["fingerprint"] == ear.heard[1]["alerts"][0]["fingerprint"]
        assert set(ear.bearers) == {f"Bearer {TOKEN}"}
        assert [line["event"] for line in at.observed.lines() if line["level"] != "debug"] == [
            "ALERT_FIRED",
            "ALERT_RESOLVED",
        ]
        assert at.observed.value("alert_notifications_total", outcome="sent") == 2


async def test_one_that_passes_before_it_held_is_never_told(pool: Pool, ear: Ear) -> None:
    async with desk(pool, ear.url) as at:
        await at.see(LETTERS)
        await at.gone()
        await at.notifier.run()
        assert ear.heard == []
        assert await pool.fetchval("select count(*) from waemitter.alerts") == 0


async def test_one_that_comes_back_has_to_hold_anew(pool: Pool, ear: Ear) -> None:
    async with desk(pool, ear.url) as at:
        await at.see(LETTERS)
        await at.held(LETTERS.name)
        await at.gone()
        await at.see(LETTERS)  # seen again, before anybody noticed that it had gone
        await at.notifier.run()
        assert ear.heard == []


async def test_two_daemons_that_see_the_same_make_one_alert(pool: Pool, ear: Ear) -> None:
    async with desk(pool, ear.url) as one, desk(pool, ear.url) as other:
        await asyncio.gather(
            *(each.see(LETTERS, PAUSED) for each in (one, other) * 8),
        )
        await one.held(LETTERS.name)
        await one.held(PAUSED.name)
        await one.notifier.run()
        await other.notifier.run()
        assert sorted(ear.told) == [(PAUSED.name, "firing"), (LETTERS.name, "firing")]
        assert len(ear.heard) == 2  # a group for each name


async def test_alerts_of_one_name_come_as_one_group(pool: Pool, ear: Ear) -> None:
    other = Observation("WaemitterChannelPaused", 1, PAUSED.labels | {"channel": "other"})
    async with desk(pool, ear.url) as at:
        await at.see(PAUSED, other)
        await at.held(PAUSED.name)
        await at.notifier.run()
        (document,) = ear.heard
        assert [alert["labels"]["channel"] for alert in document["alerts"]] == ["default", "other"]
        assert document["commonLabels"]["reason"] == "pause_account"


async def test_one_that_goes_on_is_told_again_after_a_while(pool: Pool, ear: Ear) -> None:
    async with desk(pool, ear.url) as at:
        await at.see(LETTERS)
        await at.held(LETTERS.name)
        await at.notifier.run()
        waits = await pool.fetchval("select notify_at - now() from waemitter.alerts")
        assert datetime.timedelta(hours=3, minutes=59) < waits <= datetime.timedelta(hours=4)
        await at.due()
        await at.notifier.run()
        assert ear.told == [(LETTERS.name, "firing")] * 2


@pytest.mark.parametrize("status", [500, 404, 302])
async def test_what_the_receiver_does_not_take_is_sent_again_later_and_later(
    pool: Pool, ear: Ear, status: int
) -> None:
    ear.status = status
    async with desk(pool, ear.url) as at:
        await at.see(LETTERS)
        await at.held(LETTERS.name)
        for delay in (30, 60, 120):
            summary = await at.notifier.run()
            assert (summary["success"], summary["failed"]) == (False, 1)
            waits = await pool.fetchval("select notify_at - now() from waemitter.alerts")
            assert abs(waits.total_seconds() - delay) < 5
            assert (await at.notifier.run())["failed"] == 0  # not due yet
            await at.due()
        ear.status = 200
        await at.notifier.run()
        assert ear.told == [(LETTERS.name, "firing")]
        lines = at.observed.lines("ALERT_NOT_SENT")
        assert [line["reason"] for line in lines] == [f"the receiver answered {status}"] * 3
        assert at.observed.value("alert_notifications_total", outcome="failed") == 3
        for secret in (TOKEN, "path-secret", ear.url):
            assert secret not in at.observed.text()


async def test_a_receiver_that_is_away_costs_nothing_but_time(pool: Pool) -> None:
    async with desk(pool, "http://127.0.0.1:9/hook") as at:
        await at.see(LETTERS)
        await at.held(LETTERS.name)
        assert (await at.notifier.run())["failed"] == 1
        (line,) = at.observed.lines("ALERT_NOT_SENT")
        assert line["reason"].startswith("the receiver was not reached: Client")
        await at.gone()
        assert (await at.notifier.run())["sent"] == 0  # nobody heard that it began
        assert await pool.fetchval("select notify_at is null from waemitter.alerts")


async def test_a_receiver_that_fails_is_asked_once_in_a_run_and_the_others_have_their_turn(
    pool: Pool, ear: Ear
) -> None:
    async with desk(pool, ear.url) as at:
        await at.see(LETTERS, PAUSED)
        await at.held(LETTERS.name)
        await at.held(PAUSED.name)
        ear.status = 503
        await at.notifier.run()
        assert len(ear.bearers) == 1
        ear.status = 200
        await at.notifier.run()
        assert ear.told == [(LETTERS.name, "firing")]  # the other one waits for its next try


async def test_what_happened_before_the_first_look_counts(pool: Pool) -> None:
    async with desk(pool, None) as at, watching(at, [0.0]) as watch:
        at.observed.metrics.listener_connected.labels().set(1)
        stop = Stop(grace=1)
        running = asyncio.ensure_future(watch.run(stop))
        await asyncio.sleep(0)
        at.observed.metrics.outbox_unconfirmed.labels("duplicate").inc()
        await watch.look()
        stop.request()
        await running
        assert (
            await pool.fetchval("select name from waemitter.alerts") == "WaemitterUnconfirmedResent"
        )


async def test_without_a_receiver_alerts_are_kept_and_told_when_there_is_one(
    pool: Pool, ear: Ear
) -> None:
    async with desk(pool, None) as at:
        await at.see(LETTERS)
        await at.held(LETTERS.name)
        summary = await at.notifier.run()
        assert (summary["success"], summary["firing"], summary["sent"]) == (True, 1, 0)
        (firing,) = await at.store.firing()
        assert firing.summary == "11 dead letters wait"
    async with desk(pool, ear.url) as at:
        await at.notifier.run()
        assert ear.told == [(LETTERS.name, "firing")]


async def test_the_job_tells_what_only_the_database_knows(pool: Pool, ear: Ear) -> None:
    await pool.execute(
        "insert into waemitter.jobs (name, schedule, created_at) values ('retention', '1h', now() - interval '3 hours')"
    )
    await pool.execute("update waemitter.channels set quality = 'RED' where name = 'default'")
    async with desk(pool, ear.url) as at:
        await at.notifier.run()
        assert sorted(ear.told) == [
            ("WaemitterJobLate", "firing"),
            ("WaemitterQualityLow", "firing"),
        ]
        await pool.execute("update waemitter.jobs set enabled = false")
        await pool.execute("update waemitter.channels set quality = 'GREEN'")
        await at.gone()
        await at.notifier.run()
        assert sorted(ear.told)[1::2] == [
            ("WaemitterJobLate", "resolved"),
            ("WaemitterQualityLow", "resolved"),
        ]


# --- a daemon's own watch -----------------------------------------------------------------------------------------------------


@asynccontextmanager
async def watching(at: Desk, clock: list[float]) -> AsyncIterator[Watch]:
    yield Watch(
        at.store,
        at.observed.metrics,
        limits=Limits(),
        every=30.0,
        instance="a:8080",
        away=Away(
            at.receiver,
            instance="a:8080",
            events=at.observed.events,
            clock=lambda: clock[0],
            wall=lambda: datetime.datetime.now(datetime.UTC),
        ),
        events=at.observed.events,
        clock=lambda: clock[0],
    )


async def test_a_daemon_that_is_well_asks_nothing_of_the_database(pool: Pool) -> None:
    async with desk(pool, None) as at, watching(at, [0.0]) as watch:
        at.observed.metrics.listener_connected.labels().set(1)
        await pool.execute("drop table waemitter.alerts cascade")
        await watch.look()


async def test_a_daemon_s_figures_become_alerts(pool: Pool, ear: Ear) -> None:
    async with desk(pool, ear.url) as at, watching(at, [0.0]) as watch:
        at.observed.metrics.dead_letters.labels("inbound", "pending").set(11)
        await watch.look()
        await pool.execute("update waemitter.alerts set since = since - interval '1 hour'")
        await at.notifier.run()
        assert sorted(name for name, _ in ear.told) == [
            "WaemitterDeadLetters",
            "WaemitterListenerDown",
        ]


async def test_a_database_that_is_away_is_told_by_the_daemon_itself(pool: Pool, ear: Ear) -> None:
    clock = [0.0]
    async with desk(pool, ear.url) as at, watching(at, clock) as watch:
        events = at.observed.events
        events.database_lost(error="ConnectionRefusedError")
        for now in (0.0, 59.0):
            clock[0] = now
            await watch.look()
        assert ear.told == []
        ear.status = 503
        clock[0] = 61.0
        await watch.look()  # in vain
        ear.status = 200
        for now in (90.0, 120.0):
            clock[0] = now
            await watch.look()
        events.database_back()
        at.observed.metrics.listener_connected.labels().set(1)
        for now in (150.0, 180.0):
            clock[0] = now
            await watch.look()
        assert ear.told == [
            ("WaemitterDatabaseAway", "firing"),
            ("WaemitterDatabaseAway", "resolved"),
        ]
        assert ear.heard[0]["commonLabels"]["instance"] == "a:8080"


async def test_the_count_of_stuck_conversations_is_the_view_s(pool: Pool) -> None:
    await pool.execute(
        """
        with c as (insert into waemitter.contacts (channel, wa_id)
                   select 'default', (14155550000 + n)::text from generate_series(1, 8) n returning id),
        v as (insert into waemitter.conversations (channel, contact_id) select 'default', id from c returning id),
        numbered as (select id, row_number() over (order by id) as n from v)
        insert into waemitter.message_buffer (conversation_id, closes_at)
        select id, now() - interval '3 minutes' from numbered where n = 8
        """
    )
    ids = [
        row["id"] for row in await pool.fetch("select id from waemitter.conversations order by id")
    ]
    lock = """
        update waemitter.conversations set lock_id = gen_random_uuid(), locked_at = now() - $2::interval,
          lock_expires_at = now() + $3::interval where id = $1
    """
    second, minute = datetime.timedelta(seconds=1), MINUTE
    await pool.execute(lock, ids[0], minute, -second)
    await pool.execute(lock, ids[1], 3 * minute, minute)
    await pool.execute(lock, ids[2], second, minute)  # at work
    await pool.execute(
        "update waemitter.conversations set status = 'processing' where id = any ($1)", ids[1:4]
    )
    seen = await pool.fetchval("select count(*) from waemitter.stuck_webhook_conversations")
    assert await TurnStore(pool).stuck() == seen == 4
