"""As deploy/ runs it: with a login that owns nothing, and under a service manager that wants to hear of it."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
from pathlib import Path

import asyncpg
import pytest

from tests.e2e.scene import Scene, until
from tests.support import eventually
from waemitter.db.embedded import EmbeddedPostgres

ROLES = Path(__file__).parents[2] / "deploy/postgres/roles.sql"
CUSTOMER = "14155550199"


def psql(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["psql", "--no-psqlrc", "--quiet", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | environ,
    )


def as_service(dsn: str) -> str:
    _, _, rest = dsn.partition("@")
    return f"postgresql://waemitter_service:secret@{rest}"


@pytest.mark.tool("psql", package="postgresql-client")
async def test_a_daemon_whose_login_owns_nothing_sends_and_hears(own_scene: Scene) -> None:
    for _ in range(2):  # again changes nothing
        applied = psql("--file", str(ROLES), own_scene.dsn, WAEMITTER_DATABASE_PASSWORD="secret")
        assert applied.returncode == 0, applied.stderr
    own_scene.dsn = as_service(own_scene.dsn)
    await own_scene.play()

    await own_scene.reaches(await own_scene.send("+14155550123"), "read")
    await own_scene.control("POST", "customers/messages", {"from": CUSTOMER, "text": "hello"})
    await until(lambda: own_scene.value("select count(*) from waemitter.inbound_messages"))

    for forbidden in (
        "drop table waemitter.outbox_messages",
        "alter table waemitter.outbox_messages add column mine int",
        "create table waemitter.mine (id int)",
        "create role mine",
        "copy (select 1) to program 'true'",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await own_scene.fetch(forbidden)


@pytest.mark.tool("psql", package="postgresql-client")
def test_the_roles_want_a_password(postgres: EmbeddedPostgres) -> None:
    refused = psql("--file", str(ROLES), postgres.dsn())
    assert refused.returncode != 0
    assert "set WAEMITTER_DATABASE_PASSWORD" in refused.stderr


async def test_a_service_manager_hears_of_readiness_life_and_the_end(
    scene: Scene, tmp_path: Path
) -> None:
    address = str(tmp_path / "notify")
    told: list[str] = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(address)
        manager.settimeout(0)
        loop = asyncio.get_running_loop()
        loop.add_reader(manager, lambda: told.extend(manager.recv(4096).decode().split("\n")))
        running, _ = await scene.daemon({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "600000"})
        await eventually(lambda: told.count("WATCHDOG=1") >= 2 and "READY=1" in told)
        assert await running.stop() == 0
        await eventually(lambda: "STOPPING=1" in told)
        loop.remove_reader(manager)
    assert "STATUS=0 queued, 0 in flight; Postgres answers; listening" in told
