from __future__ import annotations

import asyncio
import datetime

import asyncpg
import pytest

from tests.e2e.scene import NO_LIMITS, UNLIMITED, Scene, events, get, kill, metric, until
from tests.support import eventually
from waemitter.db.embedded import EmbeddedPostgres, StopMode

MANY = 2000
SOME = 1000
A_WHILE = {"WAEMITTER_CHANNEL__MESSAGES_PER_SECOND": "400"}
"""SOME last longer than a restart, wherever it falls."""
WAITING = """
    select pid from pg_locks where not granted and relation = 'waemitter.outbox_messages'::regclass
"""
BATCHED = ("--webhook-batch", "50", "--webhook-batch-wait", "0.02")
LOST = 'waemitter_outbox_leases_expired_total{channel="default"}'
CONFIRMED = 'waemitter_outbox_unconfirmed_total{resolution="confirmed"}'


@pytest.mark.slow
async def test_nothing_is_lost_or_doubled_when_a_daemon_is_killed_and_another_goes_on(scene: Scene):
    killed, _ = await scene.play(*NO_LIMITS, "--latency", "0.15", *BATCHED, environ=UNLIMITED)
    await scene.enqueue(MANY)
    await scene.accepts(300)
    await kill(killed)
    in_hand = (await scene.statuses())["sending"]
    _, address = await scene.daemon(UNLIMITED | {"WAEMITTER_OUTBOX__UNCONFIRMED_GRACE": "6s"})
    await until(lambda: metric(address, LOST))
    await scene.announce(address)

    found = await scene.all_reach("sent", "delivered", "read")
    report = await scene.report()

    assert found.total() == MANY
    assert (report["distinct"], report["duplicates"]) == (MANY, 0)
    # What the dead one had in flight was taken by Meta all the same: its statuses said so.
    assert in_hand > 0
    assert await metric(address, CONFIRMED) > 0


@pytest.mark.parametrize("mode", ["fast", "immediate"])
async def test_a_daemon_outlives_a_restart_of_postgres_and_loses_nothing(
    own_scene: Scene, own_postgres: EmbeddedPostgres, mode: StopMode
):
    daemon, address = await own_scene.play(*NO_LIMITS, "--latency", "0.05", environ=A_WHILE)
    await own_scene.enqueue(SOME)
    await own_scene.accepts(300)
    await asyncio.to_thread(own_postgres.restart, mode)
    unfinished = (await own_scene.statuses())["queued"]

    found = await own_scene.all_reach("sent", "delivered", "read")
    report = await own_scene.report()
    later = await own_scene.send("+14155550123", "still there?")
    await own_scene.reaches(later, "read")

    assert unfinished > 0
    assert found.total() == SOME
    assert (report["distinct"], report["duplicates"]) == (SOME, 0)
    assert daemon.process.returncode is None
    assert await metric(address, "waemitter_listener_reconnects_total") > 0


@pytest.mark.parametrize("end", ["pg_cancel_backend", "pg_terminate_backend"])
async def test_a_daemon_outlives_a_statement_that_is_cut_off(scene: Scene, end: str):
    daemon, _ = await scene.play()
    tomorrow = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=1)
    await scene.send("+14155550199", available_at=tomorrow)  # a claim of nothing waits for nothing
    blocker = await asyncpg.connect(scene.dsn)
    async with blocker.transaction():
        await blocker.execute("lock table waemitter.outbox_messages in exclusive mode")
        await scene.fetch("notify waemitter_outbox")
        await until(lambda: scene.value(f"select count({end}(pid)) from ({WAITING}) w"))
        await eventually(lambda: events(daemon, "DATABASE_LOST"))
    await blocker.close()

    await scene.reaches(await scene.send("+14155550123"), "read")

    assert events(daemon, "DATABASE_BACK")
    assert (await scene.report())["duplicates"] == 0


async def test_readiness_tells_of_an_idle_daemons_database_both_ways(
    own_scene: Scene, own_postgres: EmbeddedPostgres
):
    _, address = await own_scene.daemon()
    await asyncio.to_thread(own_postgres.stop)
    away = await until(lambda: _readiness(address, 503))
    await asyncio.to_thread(own_postgres.start)

    await until(lambda: _readiness(address, 200))

    assert '"database"' in away


async def _readiness(address: str, wanted: int) -> str | None:
    status, text = await get(f"{address}/health/ready")
    return text if status == wanted else None
