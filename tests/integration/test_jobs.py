"""Jobs run when they are due, one run of each at a time, by whichever daemon comes first."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import asyncpg
import pytest

from tests.clockwork import NAME, Pool, clockwork, counting, runs_of
from tests.e2e.scene import until
from tests.support import eventually
from waemitter.errors import NotFound
from waemitter.jobs.desk import JobDesk
from waemitter.jobs.job import Job, Summary
from waemitter.runtime.doorbell import Bell
from waemitter.runtime.due_loop import DueLoop, Fixed


@pytest.fixture
async def pool(dsn: str) -> AsyncIterator[Pool]:
    async with asyncpg.create_pool(dsn, min_size=1, max_size=6) as pool:
        yield pool


async def test_a_new_job_is_due_an_interval_from_now_and_not_before(pool: Pool) -> None:
    runs: list[str] = []
    async with clockwork(pool, [counting(runs)]) as works:
        claim = await works.scheduler.claim(1)
        assert not claim.rows
        assert claim.next_due is not None
        assert 290 < claim.next_due <= 300
    assert runs == []


async def test_a_due_job_runs_once_and_its_history_says_so(pool: Pool) -> None:
    runs: list[str] = []
    async with clockwork(pool, [counting(runs)]) as works:
        await works.turn()
        await pool.execute("update waemitter.jobs set next_run_at = now() - interval '3 hours'")
        assert await works.turn()
        assert not await works.turn()  # hours were missed, and are caught up once
        (row,) = await works.store.list()
        assert works.observed.value("job_runs_total", job=NAME, outcome="succeeded") == 1
        assert works.observed.value("job_last_success_timestamp_seconds", job=NAME) == (
            pytest.approx(time.time(), abs=60)
        )
    assert runs == [NAME]
    assert await runs_of(pool) == [("schedule", "succeeded", None)]
    assert (row.last_status, row.schedule_words) == ("succeeded", "every 5 minutes")
    assert row.next_run.startswith(("in 4 minutes", "in 5 minutes"))
    assert await pool.fetchval("select duration >= '0' from waemitter.job_runs")


async def test_the_loop_is_woken_when_a_run_ends_and_told_when_the_job_is_due_again(
    pool: Pool,
) -> None:
    async with clockwork(pool, [counting([])]) as works:
        await works.turn()
        await works.due()
        assert not works.rung.is_set()
        assert await works.turn()
        assert works.rung.is_set()
        claim = await works.scheduler.claim(1)
        assert claim.next_due == pytest.approx(300, abs=30)


async def test_a_job_that_comes_often_is_claimed_once_for_each_run(pool: Pool) -> None:
    async with clockwork(pool, [counting([], schedule="10s")]) as works:
        await works.turn()
        await works.due()
        claim = await works.scheduler.claim(1)
        assert claim.next_due == pytest.approx(10, abs=2)
        await works.scheduler.work(claim.rows[0])
        assert not works.rung.is_set()


async def test_a_time_set_by_hand_while_the_job_runs_is_kept(pool: Pool) -> None:
    async def run() -> Summary:
        await pool.execute("update waemitter.jobs set next_run_at = 'tomorrow'")
        return {"success": True}

    async with clockwork(pool, [Job(NAME, "5m", run)]) as works:
        await works.turn()
        await works.due()
        assert await works.turn()
    assert await pool.fetchval("select next_run_at = 'tomorrow' from waemitter.jobs")


async def test_ten_daemons_run_a_due_job_once(pool: Pool) -> None:
    runs: list[str] = []
    async with clockwork(pool, [counting(runs)]) as works:
        await works.turn()
        await works.due()
        await asyncio.gather(*(works.turn() for _ in range(10)))
    assert runs == [NAME]


async def test_a_job_that_fails_says_why_and_comes_again(pool: Pool) -> None:
    async def fail() -> Summary:
        raise RuntimeError("the disk is full of +14155550123")

    async with clockwork(pool, [Job(NAME, "5m", fail)]) as works:
        await works.turn()
        await works.due()
        await works.turn()
        (line,) = works.observed.lines("JOB_FAILED")
        assert line["error"] == "RuntimeError"
        assert "4155550123" not in works.observed.text()
        (row,) = await works.store.list()
    assert await runs_of(pool) == [
        ("schedule", "failed", "RuntimeError: the disk is full of +14155550123")
    ]
    assert row.next_run_at is not None
    assert row.next_run_at > row.now


async def test_run_now_runs_what_is_disabled_and_leaves_the_schedule_alone(pool: Pool) -> None:
    runs: list[str] = []
    async with clockwork(pool, [counting(runs)]) as works:
        await works.turn()
        await works.store.enable(NAME, enabled=False)
        await works.due()
        assert not await works.turn()
        before = (await works.store.list())[0]
        first = await pool.fetchval("select waemitter.run_job('dlq-processor')")
        assert await pool.fetchval("select waemitter.run_job('dlq-processor')") == first
        assert before.next_run == "never"
        assert await works.turn()
        assert not await works.turn()
    assert runs == [NAME]
    assert await runs_of(pool) == [("request", "succeeded", None)]


async def test_the_desk_waits_for_the_run_that_it_asked_for(pool: Pool) -> None:
    runs: list[str] = []
    async with clockwork(pool, [counting(runs)]) as works:
        desk = JobDesk(works.store)
        asked = asyncio.create_task(desk.run(NAME, within=20))
        await until(works.turn)
        run = await asked
        assert (run.status, run.summary) == ("succeeded", '{"success": true, "processed": 1}')
        unheard = await desk.run(NAME, within=0)
        assert unheard.status == "starting"
        with pytest.raises(NotFound, match="waemitter jobs list"):
            await desk.run("nothing", within=0)


async def test_a_run_whose_daemon_vanished_is_begun_anew_by_another(pool: Pool) -> None:
    runs: list[str] = []
    async with clockwork(pool, [counting(runs)]) as works:
        await works.turn()
        await works.due()
        assert (await works.scheduler.claim(1)).rows  # and it dies
        assert not await works.turn()
        await pool.execute("update waemitter.jobs set running_until = now()")
        assert await works.turn()
    assert runs == [NAME]
    assert await runs_of(pool) == [
        ("schedule", "failed", "its daemon vanished"),
        ("schedule", "succeeded", None),
    ]


async def test_a_requested_run_outlives_the_daemon_that_began_it(pool: Pool) -> None:
    runs: list[str] = []
    async with clockwork(pool, [counting(runs)]) as works:
        await works.turn()
        run_id = await works.store.request(NAME)
        assert (await works.scheduler.claim(1)).rows  # and it dies
        await pool.execute("update waemitter.jobs set running_until = now()")
        assert await works.turn()
        run = await works.store.run(run_id)
    assert run is not None
    assert run.status == "succeeded"
    assert len(await runs_of(pool)) == 1


async def test_a_stale_daemon_ends_nobody_else_s_run(pool: Pool) -> None:
    runs: list[str] = []
    async with clockwork(pool, [counting(runs)]) as works:
        await works.turn()
        await works.due()
        (stale,) = (await works.scheduler.claim(1)).rows
        await pool.execute("update waemitter.jobs set running_until = now()")
        (fresh,) = (await works.scheduler.claim(1)).rows
        await works.scheduler.work(stale)
        status = await pool.fetchval(
            "select status from waemitter.job_runs where id = $1", fresh.run_id
        )
        assert status == "running"
        assert await pool.fetchval("select run_id from waemitter.jobs") == fresh.run_id


async def test_a_stop_cuts_a_job_short_and_another_daemon_runs_it(pool: Pool) -> None:
    begun, let_go = asyncio.Event(), asyncio.Event()

    async def endless() -> Summary:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            let_go.set()
        return {}

    runs: list[str] = []
    async with clockwork(pool, [Job(NAME, "5m", endless)]) as works:
        await works.turn()
        await works.due()
        turn = asyncio.create_task(works.turn())
        await begun.wait()
        works.stop.request()
        await turn
        assert let_go.is_set()
        assert works.observed.lines("JOB_CUT_SHORT")
    async with clockwork(pool, [counting(runs)]) as works:
        assert await works.turn()
    assert [status for _, status, _ in await runs_of(pool)] == ["failed", "succeeded"]


async def test_another_schedule_counts_from_when_it_was_set(pool: Pool) -> None:
    async with clockwork(pool, [counting([])]) as works:
        await works.turn()
        await pool.execute(
            "update waemitter.jobs set schedule = '0 2 * * *', time_zone = 'Europe/Berlin'"
        )
        await works.turn()
        (row,) = await works.store.list()
        assert row.schedule_words == "at 02:00 every day (Europe/Berlin)"
        assert row.next_run_at is not None
        assert row.next_run_at.minute == 0

        await pool.execute("update waemitter.jobs set schedule = 'often'")
        assert not await works.turn()
        assert not await works.turn()
        (line,) = works.observed.lines("JOB_SCHEDULE_INVALID")
        assert "write an interval" in line["reason"]
        (row,) = await works.store.list()
        assert row.problem == line["reason"]

        await pool.execute("update waemitter.jobs set schedule = '1h'")
        await works.turn()
        (row,) = await works.store.list()
        assert (row.problem, row.schedule_words) == (None, "every hour")


async def test_a_setting_that_changed_is_followed_and_one_that_did_not_leaves_the_row(
    pool: Pool,
) -> None:
    async with clockwork(pool, [counting([], schedule="5m")]):
        await pool.execute("update waemitter.jobs set schedule = '7m'")
    async with clockwork(pool, [counting([], schedule="5m")]) as works:
        assert (await works.store.list())[0].schedule == "7m"
    async with clockwork(pool, [counting([], schedule="10m")]) as works:
        assert (await works.store.list())[0].schedule == "10m"


@pytest.mark.parametrize(
    "ask",
    [
        "select waemitter.run_job('dlq-processor')",
        "update waemitter.jobs set next_run_at = now()",
        (
            "insert into waemitter.dead_letters (direction, stage, payload, error, next_retry_at)"
            " values ('inbound', 'split', '{}', 'it broke', now())"
        ),
    ],
)
async def test_what_makes_a_job_due_rings_for_it(
    pool: Pool, connection: asyncpg.Connection[asyncpg.Record], ask: str
) -> None:
    heard: list[str] = []
    async with clockwork(pool, [counting([])]) as works:
        await works.turn()
        await connection.add_listener("waemitter_jobs", lambda *call: heard.append(str(call[2])))
        await pool.execute(ask)
        await eventually(lambda: heard)
        assert await works.turn()


async def test_the_loop_sleeps_until_the_bell_or_the_time(pool: Pool) -> None:
    runs: list[str] = []
    bell = Bell()
    async with clockwork(pool, [counting(runs)]) as works, asyncio.TaskGroup() as group:
        loop = DueLoop(
            works.scheduler,
            bell,
            capacity=Fixed(1),
            batch_size=1,
            sweep_interval=3600,
            jitter=lambda: 1.0,
        )
        group.create_task(loop.run(works.stop))
        await until(lambda: scheduled(pool))
        await works.store.request(NAME)
        bell.ring()
        await eventually(lambda: runs)
        works.stop.request()


async def scheduled(pool: Pool) -> bool:
    return bool(await pool.fetchval("select next_run_at is not null from waemitter.jobs"))


async def test_the_older_names_are_views_of_the_same_rows(pool: Pool) -> None:
    buffers = counting([], "buffer-processor", "10s")
    async with clockwork(pool, [counting([]), buffers]) as works:
        await works.turn()
        await works.due()
        await works.turn()
        async with pool.acquire() as connection:
            await connection.execute("set search_path = waemitter")
            jobs = await connection.fetch(
                "SELECT jobname, schedule, active, jobid FROM cron_job "
                "WHERE jobname IN ('dlq-processor', 'session-cleanup')"
            )
            details = await connection.fetch(
                "SELECT jobname, runid, status, start_time, end_time FROM cron_job_run_details "
                "WHERE jobname IN ('dlq-processor', 'session-cleanup') ORDER BY start_time DESC LIMIT 10"
            )
            logs = await connection.fetch(
                "SELECT * FROM cron_job_logs ORDER BY executed_at DESC LIMIT 10"
            )
            status = await connection.fetch("SELECT * FROM get_cron_job_status()")
            await connection.execute(
                "UPDATE cron_job SET active = false WHERE jobname LIKE '%buffer%'"
            )
            off = await connection.fetchval(
                "select is_enabled from feature_flags where flag_name = 'buffer_processing'"
            )
            await connection.execute(
                "DELETE FROM cron_job_logs WHERE executed_at < NOW() - INTERVAL '7 days'"
            )
            kept = await connection.fetchval("select count(*) from cron_job_logs")
            await connection.execute(
                "update job_runs set created_at = now() - interval '8 days';"
                "DELETE FROM cron_job_logs WHERE executed_at < NOW() - INTERVAL '7 days'"
            )
            gone = await connection.fetchval("select count(*) from job_runs")
            await connection.execute("reset search_path")
    assert [(job["jobname"], job["schedule"], job["active"]) for job in jobs] == [
        (NAME, "5m", True)
    ]
    assert [(run["jobname"], run["status"]) for run in details] == [(NAME, "succeeded")]
    assert details[0]["end_time"] >= details[0]["start_time"]
    assert [log["job_name"] for log in logs] == [NAME]
    assert {record["jobname"]: record["last_status"] for record in status} == {
        "buffer-processor": None,
        NAME: "succeeded",
    }
    assert off is False
    assert (kept, gone) == (1, 0)


@pytest.mark.parametrize("enabled", [True, False])
async def test_the_buffer_processor_and_its_switch_are_one(pool: Pool, *, enabled: bool) -> None:
    await pool.execute("select waemitter.toggle_buffer_processing(false)")
    async with clockwork(pool, [counting([], "buffer-processor", "10s")]) as works:
        assert not (await works.store.list())[0].enabled  # it was off before there was a job
        for word in (enabled, not enabled):
            await pool.execute("select waemitter.toggle_buffer_processing($1)", word)
            assert (await works.store.list())[0].enabled is word
        for word in (enabled, not enabled):
            await works.store.enable("buffer-processor", enabled=word)
            assert await pool.fetchval("select waemitter.flag_enabled('buffer_processing')") is word
