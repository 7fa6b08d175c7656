"""From an older release's schema to a newer one's: as a new database is, once, and never past a daemon that needs the old."""

from __future__ import annotations

import asyncio
import subprocess
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from tests.conftest import new_database
from tests.upgrading import broken, newer, older
from waemitter.db import schema
from waemitter.db.embedded import EmbeddedPostgres
from waemitter.db.pool import connect_listener, open_connection
from waemitter.errors import SchemaNotSupported, WaemitterError

Connection = asyncpg.Connection


@pytest.fixture
async def url(postgres: EmbeddedPostgres) -> Any:
    """A database with the older release's schema."""
    async with new_database(postgres, "TEMPLATE template0") as url:
        async with open_connection(url) as connection:
            await schema.apply(connection, older())
            await connection.execute(
                "insert into waemitter.parcels (note) values ('red ones'), ('blue ones')"
            )
        yield url


def connected(url: str) -> AbstractAsyncContextManager[Connection]:
    return open_connection(url)


async def versions(connection: Connection) -> list[int]:
    rows = await connection.fetch("select version from waemitter.schema_migrations order by 1")
    return [row["version"] for row in rows]


def dumped(postgres: EmbeddedPostgres, url: str) -> list[str]:
    """By pg_dump, without its comments and the random words that newer ones guard a script with."""
    assert postgres._binaries is not None
    command = [str(postgres._binaries / "pg_dump"), "--schema-only", "--schema=waemitter", url]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    noise = ("--", "\\")
    return [line for line in done.stdout.splitlines() if line and not line.startswith(noise)]


async def test_an_upgraded_database_is_a_new_one(postgres: EmbeddedPostgres, url: str) -> None:
    async with connected(url) as connection:
        assert dumped(postgres, url) != []
        await schema.apply(connection, newer())
        assert await versions(connection) == [1, 2, 3, 4]
        labels = await connection.fetch(
            "select waemitter.parcel_label(id) from waemitter.parcels order by id"
        )
    async with new_database(postgres, "TEMPLATE template0") as fresh:
        async with connected(fresh) as connection:
            await schema.apply(connection, newer())
            assert await versions(connection) == [1, 2, 3, 4]
        assert dumped(postgres, url) == dumped(postgres, fresh)
    assert [row[0] for row in labels] == ["red", "brown"]  # and what was in it is there


async def test_a_second_time_changes_nothing(postgres: EmbeddedPostgres, url: str) -> None:
    async with connected(url) as connection:
        await schema.apply(connection, newer())
        once = dumped(postgres, url)
        at = await connection.fetch(
            "select version, applied_at from waemitter.schema_migrations order by 1"
        )
        await schema.apply(connection, newer())
        assert dumped(postgres, url) == once
        again = await connection.fetch(
            "select version, applied_at from waemitter.schema_migrations order by 1"
        )
    assert at == again


async def test_several_at_once_run_each_migration_once(url: str) -> None:
    async def apply() -> None:
        async with connected(url) as connection:
            await schema.apply(connection, newer())

    async with asyncio.TaskGroup() as group:
        for _ in range(4):
            group.create_task(apply())
    async with connected(url) as connection:
        assert await versions(connection) == [1, 2, 3, 4]


async def test_one_that_waits_in_vain_says_who_is_at_work(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema, "PATIENCE", 0.05)
    async with connected(url) as connection, connected(url) as other:
        await other.fetchval(schema._TRY_LOCK)
        with pytest.raises(WaemitterError, match="is at work"):
            await schema.apply(connection, newer())
        assert await versions(connection) == [1]


async def test_a_step_that_fails_leaves_those_before_it_and_the_next_try_goes_on(url: str) -> None:
    failing = broken(newer(), 4, "alter table waemitter.parcels drop column nobody_has_this")
    async with connected(url) as connection:
        with pytest.raises(asyncpg.UndefinedColumnError):
            await schema.apply(connection, failing)
        assert await versions(connection) == [1, 2, 3]
        assert await schema.installed_version(connection) == 1  # the whole comes last

        await schema.apply(connection, newer())
        assert await schema.installed_version(connection) == 4


async def test_an_index_that_was_interrupted_is_made_anew(url: str) -> None:
    failing = broken(
        newer(), 3, "create unique index concurrently parcels_colours on waemitter.parcels ((1))"
    )
    async with connected(url) as connection:
        with pytest.raises(asyncpg.UniqueViolationError):
            await schema.apply(connection, failing)
        assert not await connection.fetchval(
            "select indisvalid from pg_index where indexrelid = 'waemitter.parcels_colours'::regclass"
        )
        assert await versions(connection) == [1, 2]

        await schema.apply(connection, newer())
        assert await connection.fetchval(
            "select indisvalid and not indisunique from pg_index"
            " where indexrelid = 'waemitter.parcels_colours'::regclass"
        )


async def test_a_held_lock_ends_a_step_and_nothing_is_half_done(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema, "_LIMITS", "SET LOCAL lock_timeout = '50ms'")
    async with connected(url) as connection, connected(url) as other:
        async with other.transaction():
            await other.execute("lock table waemitter.parcels in access share mode")
            with pytest.raises(WaemitterError, match="holds a lock"):
                await schema.apply(connection, newer())
        assert await versions(connection) == [1]
        await schema.apply(connection, newer())


async def test_a_daemon_that_would_be_left_behind_stops_the_upgrade(url: str) -> None:
    listening = await connect_listener(url, application_name=schema.LISTENER)
    async with connected(url) as connection:
        assert await schema.daemons(connection) == {1: 1}
        with pytest.raises(
            WaemitterError, match=r"\(1 of schema 1; schema 2 or newer is asked for\)"
        ):
            await schema.apply(connection, newer())
        assert await versions(connection) == [1]

        await schema.apply(connection, newer(3))  # what it can go on beside is done
        await listening.close()
        await schema.apply(connection, newer())
        assert await versions(connection) == [1, 2, 3, 4]


async def test_a_daemon_runs_on_a_newer_schema_until_that_asks_for_a_newer_daemon(url: str) -> None:
    async with connected(url) as connection:
        await schema.apply(connection, newer(3))
        await schema.require(connection)
        await schema.apply(connection, newer())
        with pytest.raises(
            SchemaNotSupported, match=r"made for 1: install one that is made for 2 or newer"
        ):
            await schema.require(connection)


async def test_a_newer_release_s_schema_is_not_overwritten_by_an_older_one(url: str) -> None:
    async with connected(url) as connection:
        await schema.apply(connection, newer(3))
        with pytest.raises(SchemaNotSupported, match="is version 3"):
            await schema.apply(connection)


async def test_the_whole_alone_refuses_a_database_that_has_not_seen_the_migrations(
    url: str,
) -> None:
    async with connected(url) as connection:
        with pytest.raises(
            asyncpg.RaiseError, match="has not seen migration 2: run `waemitter schema"
        ):
            await connection.execute(newer().sql)
        assert await versions(connection) == [1]


@pytest.mark.tool("psql", package="postgresql-client")
async def test_psql_does_it_too(postgres: EmbeddedPostgres, url: str, tmp_path: Path) -> None:
    printed = tmp_path / "printed.sql"
    printed.write_text(schema.script(newer(), since=1))
    psql = ["psql", "--no-psqlrc", "--quiet", "-v", "ON_ERROR_STOP=1", "-f", str(printed), url]
    process = await asyncio.create_subprocess_exec(*psql)
    assert await process.wait() == 0
    async with new_database(postgres, "TEMPLATE template0") as fresh:
        async with connected(fresh) as connection:
            await schema.apply(connection, newer())
        assert dumped(postgres, url) == dumped(postgres, fresh)


def test_what_is_printed_begins_behind_the_version_that_is_there() -> None:
    begun = "begin;\ninsert into waemitter.schema_migrations"
    assert schema.script(newer(), since=3).startswith(begun)
    assert (
        "parcels_get_a_colour', 1);" not in schema.script(newer(), since=3).partition("commit;")[0]
    )
    assert schema.script(newer(), since=None) == newer().sql
