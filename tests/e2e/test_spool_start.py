"""A daemon with a spool starts while Postgres is away: it takes webhooks, and begins the rest when there is a database."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import orjson

from tests.e2e.scene import QUICK, Scene, events, get, until
from tests.e2e.test_journal import SENT, body, delivering, files, journalled
from tests.support import eventually
from waemitter.db.embedded import EmbeddedPostgres
from waemitter.ops.processes import Child, child

MANY = 60
READ = "select count(*) from waemitter.outbox_messages where status = 'delivered'"


@asynccontextmanager
async def started(scene: Scene, spool: Path) -> AsyncIterator[tuple[Child, str]]:
    """A daemon that is there, ready or not."""
    environ = scene.environment() | QUICK | {"WAEMITTER_INBOX__SPOOL_DIR": str(spool)}
    async with child("the daemon", ["-m", "waemitter", "run"], environ=environ) as daemon:
        yield daemon, (await daemon.event("DAEMON_STARTED"))["address"]


async def test_it_takes_webhooks_and_works_them_off_when_postgres_has_come(
    own_scene: Scene, own_postgres: EmbeddedPostgres, tmp_path: Path
) -> None:
    await own_scene.fetch(SENT, MANY)
    await asyncio.to_thread(own_postgres.stop, "immediate")
    async with started(own_scene, tmp_path) as (daemon, address):
        async with delivering(address, MANY) as meta:
            pass
        _, told = await get(f"{address}/health")
        ready, _ = await get(f"{address}/health/ready")
        unready = not events(daemon, "DAEMON_READY")
        await asyncio.to_thread(own_postgres.start)
        await daemon.event("DAEMON_READY")

        async def applied() -> bool:
            return bool(await own_scene.value(READ) == MANY)

        await until(applied)
        await eventually(lambda: not files(tmp_path))
        assert await daemon.stop() == 0

    assert meta.answers == {200: MANY}
    assert await journalled(own_scene) == Counter(body(n).decode() for n in range(MANY))
    health = orjson.loads(told)
    assert (ready, health["status"], unready) == (200, "degraded", True)
    database = next(each for each in health["components"] if each["name"] == "database")
    assert database["detail"] == "does not answer; webhooks are kept on disk"


async def test_a_stop_comes_before_postgres_and_what_was_taken_stays_on_disk(
    own_scene: Scene, own_postgres: EmbeddedPostgres, tmp_path: Path
) -> None:
    await asyncio.to_thread(own_postgres.stop, "immediate")
    async with started(own_scene, tmp_path) as (daemon, address):
        async with delivering(address, 5):
            pass
        daemon.process.send_signal(signal.SIGTERM)
        assert await daemon.process.wait() == 0
    assert files(tmp_path)


async def test_a_database_that_turns_out_to_be_another_ends_it_as_ever(
    own_scene: Scene, own_postgres: EmbeddedPostgres, tmp_path: Path
) -> None:
    await asyncio.to_thread(own_postgres.stop, "immediate")
    own_scene.dsn = own_postgres.dsn("postgres")  # it has no schema of ours
    async with started(own_scene, tmp_path) as (daemon, address):
        async with delivering(address, 5):
            pass
        await asyncio.to_thread(own_postgres.start)
        assert await daemon.process.wait() == 4
    assert files(tmp_path)
