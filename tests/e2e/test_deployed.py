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
from tests.receiving_events import SECRET, receiver
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


def as_login(dsn: str, login: str) -> str:
    _, _, rest = dsn.partition("@")
    return f"postgresql://{login}:secret@{rest}"


async def enqueued_by(shop: str) -> int:
    """An application's login may enqueue, look at its own and cancel it; nothing else."""
    connection = await asyncpg.connect(shop)
    try:
        mine: int = await connection.fetchval("select waemitter.send_text('+14155550123', 'Hi')")
        later = await connection.fetchval(
            "select waemitter.send_text('+14155550124', 'Hi', available_at => now() + interval '1 day')"
        )
        assert await connection.fetchval("select waemitter.cancel_message($1)", later)
        found = await connection.fetch("select id from waemitter.outbox_messages")
        assert {row["id"] for row in found} == {mine, later}
        for table in ("contacts", "webhook_logs", "event_outbox", "api_keys", "inbound_messages"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.fetch(f"select from waemitter.{table}")
        for forbidden in (
            "select waemitter.tell_event('message.sent', 'x', null, '{}')",
            "select * from waemitter.claim_messages('default', 1, '1s', '1s', '1s', 'hold', 1)",
            "update waemitter.channels set paused_until = 'infinity'",
            "delete from waemitter.outbox_messages",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.fetch(forbidden)
    finally:
        await connection.close()
    return mine


@pytest.mark.tool("psql", package="postgresql-client")
async def test_a_daemon_whose_login_owns_nothing_sends_hears_and_tells(
    own_scene: Scene, tmp_path: Path
) -> None:
    for _ in range(2):  # again changes nothing
        applied = psql("--file", str(ROLES), own_scene.dsn, WAEMITTER_DATABASE_PASSWORD="secret")
        assert applied.returncode == 0, applied.stderr
    await own_scene.fetch("create role shop login password 'secret' in role waemitter_app")
    shop = as_login(own_scene.dsn, "shop")
    own_scene.dsn = as_login(own_scene.dsn, "waemitter_service")
    async with receiver() as received:
        config = tmp_path / "waemitter.toml"
        config.write_text(
            f'[events.shop]\ntypes = ["message.*"]\nwebhook = "{received.url}"\nsecret_env = "S"\n'
        )
        await own_scene.play(environ={"WAEMITTER_CONFIG": str(config), "S": SECRET})
        mine = await enqueued_by(shop)
        await own_scene.reaches(mine, "read")
        await eventually(lambda: "message.read" in received.types(f"messages/{mine}"))

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
