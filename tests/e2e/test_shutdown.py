from __future__ import annotations

import asyncio
import signal
import time

import asyncpg
import pytest

from tests.e2e.scene import NO_LIMITS, UNLIMITED, Scene, events, get, until
from waemitter.ops.processes import child

HANG = ("--hang-before", "1")
LONG = {"WAEMITTER_OUTBOX__REQUEST_TIMEOUT": "20s", "WAEMITTER_OUTBOX__LEASE": "25s"}


async def test_a_stop_under_load_leaves_nothing_sending_and_gives_back_what_was_not_begun(
    scene: Scene,
):
    daemon, _ = await scene.play(*NO_LIMITS, "--latency", "0.1", environ=UNLIMITED)
    await scene.enqueue(5000)
    await scene.accepts(200)

    assert await daemon.stop() == 0

    rows = await scene.fetch(
        """select status, attempts, claimed_at, available_at <= clock_timestamp() as due, error_message
           from waemitter.outbox_messages"""
    )
    waiting = [row for row in rows if row["status"] == "queued"]
    assert waiting
    assert {row["status"] for row in rows} <= {"queued", "sent", "delivered", "read"}
    assert {tuple(row)[1:] for row in waiting} == {(0, None, True, None)}
    assert (await scene.report())["accepted"] == len(rows) - len(waiting)
    assert events(daemon, "DAEMON_DRAINED")


async def test_a_stop_waits_for_the_answers_of_what_is_in_flight(scene: Scene):
    daemon, _ = await scene.play("--latency", "0.8", "--no-statuses", environ=UNLIMITED)
    message_id = await scene.send("+14155550123")
    await scene.accepts(1)

    assert await daemon.stop() == 0

    assert (await scene.row(message_id))["status"] == "sent"


async def test_when_the_grace_runs_out_the_daemon_ends_with_3_and_the_row_is_not_lost(scene: Scene):
    daemon, _ = await scene.play(*HANG, environ=LONG | {"WAEMITTER_GRACE": "0.5s"})
    message_id = await scene.send("+14155550123")
    await until(lambda: _hangs(scene))

    started = time.monotonic()
    code = await daemon.stop()

    assert (code, time.monotonic() - started < 5) == (3, True)
    assert events(daemon, "DAEMON_GRACE_RAN_OUT")
    assert (await scene.row(message_id))["status"] in {"sending", "unconfirmed"}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_second_signal_ends_it_at_once(scene: Scene, number: signal.Signals):
    daemon, address = await scene.play(*HANG, environ=LONG)
    await scene.send("+14155550123")
    await until(lambda: _hangs(scene))

    daemon.signal(number)
    await until(lambda: _is_stopping(address))
    assert daemon.process.returncode is None
    daemon.signal(number)

    async with asyncio.timeout(5):
        assert await daemon.process.wait() == 3, daemon.last_words()


async def test_a_signal_while_the_database_holds_up_the_start_ends_it_cleanly(scene: Scene):
    blocker = await asyncpg.connect(scene.dsn)
    async with blocker.transaction():
        await blocker.execute("lock table waemitter.channels in access exclusive mode")
        async with _starting(scene) as starting:
            await until(lambda: _waits_for_a_lock(blocker))
            starting.signal(signal.SIGTERM)
            async with asyncio.timeout(5):
                assert await starting.process.wait() == 0
            assert not [line for line in starting.lines if not line.startswith("{")]
    await blocker.close()


async def test_a_signal_at_any_moment_of_the_start_leaves_no_traceback(scene: Scene):
    await asyncio.gather(*(_is_told_to_end(scene, after) for after in (0.1, 0.5, 0.9, 1.3, 1.7)))


async def _is_told_to_end(scene: Scene, after: float) -> None:
    async with _starting(scene) as starting:
        # No condition to wait for: the moments are the point.
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(after):
                await starting.process.wait()
        starting.signal(signal.SIGTERM)
        async with asyncio.timeout(10):
            assert await starting.process.wait() in {0, -signal.SIGTERM}, starting.last_words()
    assert not [line for line in starting.lines if not line.startswith("{")]


def _starting(scene: Scene):
    return child("the daemon", ["-m", "waemitter", "run"], environ=scene.environment())


async def _waits_for_a_lock(connection: asyncpg.Connection[asyncpg.Record]) -> bool:
    waiting: bool = await connection.fetchval(
        "select exists (select from pg_locks where not granted and relation = 'waemitter.channels'::regclass)"
    )
    return waiting


async def _hangs(scene: Scene) -> bool:
    return bool((await scene.report())["faults"] == {"hang_before": 1})


async def _is_stopping(address: str) -> bool:
    status, text = await get(f"{address}/health/ready")
    return status == 503 and "stopping" in text
