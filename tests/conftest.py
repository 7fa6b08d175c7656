"""A real Postgres for every test that asks for one.

WAEMITTER_TEST_POSTGRES picks it: 18 (the default), 16, or `system` for the machine's own binaries.
"""

from __future__ import annotations

import asyncio
import secrets
import shutil
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import asyncpg
import pytest
from hypothesis import HealthCheck, settings

from tests.support import chosen_postgres, copied, postgres_of, scratch
from waemitter.db import schema
from waemitter.db.embedded import EmbeddedPostgres

# A busy machine is no fault of a property: no test depends on speed.
settings.register_profile("house", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("house")

TEMPLATE: Final = "waemitter"
"""The database with the schema: cloned for each test, and used as it is in a test's own server."""


if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A suite that a shell runs in the background ignores SIGINT, and so would every process that a test interrupts.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_runtest_setup(item: pytest.Item) -> None:
    for mark in item.iter_markers("tool"):
        (program,) = mark.args
        if shutil.which(program) is None:
            package = mark.kwargs["package"]
            pytest.skip(f"{program} is not installed (Debian: {package}); .ci/run installs it")


@pytest.fixture(scope="session")
def cluster() -> Iterator[Path]:
    """A stopped server whose database `waemitter` has the schema: made once, then copied."""
    with scratch() as directory:
        with chosen_postgres(directory) as server:
            asyncio.run(make_template(server))
        yield directory


@pytest.fixture(scope="session")
def postgres(cluster: Path) -> Iterator[EmbeddedPostgres]:
    """The server that all tests share. Do not stop it: `own_postgres` is for that."""
    with scratch() as directory, chosen_postgres(copied(cluster, directory)) as server:
        yield server


@pytest.fixture
def own_postgres(cluster: Path) -> Iterator[EmbeddedPostgres]:
    """A running server of the test's own, to restart or kill; `dsn("waemitter")` has the schema."""
    with scratch() as directory, chosen_postgres(copied(cluster, directory)) as server:
        yield server


@pytest.fixture
async def dsn(postgres: EmbeddedPostgres) -> AsyncIterator[str]:
    """A new database with the schema, this test's alone."""
    async with new_database(postgres, f"TEMPLATE {TEMPLATE}") as url:
        yield url


@pytest.fixture
async def connection(dsn: str) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    """A connection to the test's database."""
    connection = await asyncpg.connect(dsn)
    yield connection
    await connection.close()


@pytest.fixture(scope="session", params=["16", "18", "system"])
def any_postgres(request: pytest.FixtureRequest) -> Iterator[EmbeddedPostgres]:
    """One server after the other, of every version that can be had here."""
    with scratch() as directory, postgres_of(request.param, directory) as server:
        yield server


@pytest.fixture
async def any_postgres_version(any_postgres: EmbeddedPostgres) -> AsyncIterator[str]:
    """A new database without the schema, on each version in turn."""
    async with new_database(any_postgres, "TEMPLATE template0") as url:
        yield url


async def make_template(server: EmbeddedPostgres) -> None:
    admin = await asyncpg.connect(server.dsn())
    await admin.execute(f"CREATE DATABASE {TEMPLATE}")
    await admin.close()
    connection = await asyncpg.connect(server.dsn(TEMPLATE))
    await schema.apply(connection)
    await connection.close()


@asynccontextmanager
async def new_database(server: EmbeddedPostgres, options: str) -> AsyncIterator[str]:
    name = f"test_{secrets.token_hex(6)}"
    admin = await asyncpg.connect(server.dsn())
    try:
        await admin.execute(f"CREATE DATABASE {name} {options}")
        yield server.dsn(name)
        await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
    finally:
        await admin.close()
