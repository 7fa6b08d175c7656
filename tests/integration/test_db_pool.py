"""Connections: what they carry, how they end, and what is said when there are none."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from pathlib import Path

import asyncpg
import pytest

from tests.support import chosen_postgres, copied, eventually, scratch
from waemitter.db import pool as pool_module
from waemitter.db.embedded import EmbeddedPostgres
from waemitter.db.pool import connect_listener, is_outage, open_connection, open_pool, outages
from waemitter.errors import DatabaseUnreachable, UsageError


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


async def test_a_pool_lends_connections_with_their_name_and_time_out(dsn: str) -> None:
    async with open_pool(dsn, size=2, application_name="tester", statement_timeout=2.5) as pool:
        assert await pool.fetchval("SHOW application_name") == "tester"
        assert await pool.fetchval("SHOW statement_timeout") == "2500ms"
        assert pool.get_max_size() == 2


async def test_a_statement_that_takes_too_long_is_ended_by_the_server(dsn: str) -> None:
    async with open_pool(dsn, size=1, statement_timeout=0.05) as pool:
        with pytest.raises(asyncpg.QueryCanceledError):
            await pool.execute("SELECT pg_sleep(10)")
        assert await pool.fetchval("SELECT 1") == 1


async def test_behind_a_transaction_pooler_no_session_setting_is_sent(dsn: str) -> None:
    async with open_pool(dsn, size=1, statement_timeout=0.05, transaction_pooler=True) as pool:
        assert await pool.fetchval("SHOW statement_timeout") == "0"
        assert await pool.fetchval("SHOW jit") == "on"
        for _ in range(10):
            await pool.fetchval("SELECT $1::int", 1)
        assert await pool.fetchval("SELECT count(*) FROM pg_prepared_statements") <= 1
        with pytest.raises(TimeoutError):
            await pool.execute("SELECT pg_sleep(10)")


async def test_json_stays_text(dsn: str) -> None:
    async with open_pool(dsn, size=1) as pool:
        assert await pool.fetchval("""SELECT '{"a": 1}'::jsonb""") == '{"a": 1}'
        assert await pool.fetchval("SELECT $1::jsonb ->> 'a'", '{"a": 1}') == "1"


async def test_a_transaction_left_open_is_rolled_back_when_its_connection_returns(
    dsn: str,
) -> None:
    async with open_pool(dsn, size=1) as pool:
        async with pool.acquire() as connection:
            await connection.execute("BEGIN; CREATE TABLE half_done ()")
        assert await pool.fetchval("SELECT to_regclass('half_done')") is None


async def test_a_pool_closes_although_somebody_keeps_a_connection(
    dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool_module, "CLOSE_TIMEOUT", 0.05)
    async with asyncio.timeout(5), open_pool(dsn, size=1) as pool:
        kept = await pool.acquire()
    with pytest.raises(asyncpg.InterfaceError, match="released"):
        await kept.execute("SELECT 1")


async def test_a_pool_survives_a_restart_of_the_server(own_postgres: EmbeddedPostgres) -> None:
    async with open_pool(own_postgres.dsn(), size=2) as pool:
        await pool.fetchval("SELECT 1")
        await asyncio.to_thread(own_postgres.restart, "immediate")

        assert await eventually(lambda: pool.fetchval("SELECT 1")) == 1


async def test_outages_are_told_from_mistakes(dsn: str) -> None:
    async with open_pool(dsn, size=2) as pool, open_connection(dsn) as admin:
        async with pool.acquire() as connection:
            pid = connection.get_server_pid()
            waiting = asyncio.create_task(connection.execute("SELECT pg_sleep(10)"))
            await eventually(
                lambda: admin.fetchval(
                    "SELECT true FROM pg_stat_activity WHERE pid = $1 AND wait_event = 'PgSleep'",
                    pid,
                )
            )
            await admin.execute("SELECT pg_terminate_backend($1)", pid)
            with pytest.raises(asyncpg.PostgresError) as cut:
                await waiting
            with pytest.raises(asyncpg.InterfaceError) as gone:
                await connection.execute("SELECT 1")
        with pytest.raises(asyncpg.PostgresError) as mistake:
            await pool.execute("SELEKT")

    assert is_outage(cut.value)
    assert is_outage(gone.value)
    assert is_outage(ConnectionRefusedError())
    assert not is_outage(mistake.value)
    with pytest.raises(DatabaseUnreachable, match="away"), outages():
        raise cut.value
    with pytest.raises(asyncpg.PostgresError), outages():
        raise mistake.value


async def test_a_listener_hears_and_notices_a_dead_line_soon(cluster: Path) -> None:
    port = str(free_port())
    with (
        scratch() as directory,
        chosen_postgres(copied(cluster, directory), listen_addresses="127.0.0.1", port=port),
    ):
        listener = await connect_listener(f"postgresql://postgres@127.0.0.1:{port}/waemitter")
        heard: asyncio.Queue[object] = asyncio.Queue()
        await listener.add_listener("bell", lambda *call: heard.put_nowait(call[3]))
        await listener.execute("NOTIFY bell, 'ding'")

        assert await asyncio.wait_for(heard.get(), 5) == "ding"
        assert await listener.fetchval("SHOW tcp_keepalives_idle") == "30"
        assert await listener.fetchval("SHOW tcp_user_timeout") == "60000"
        assert await listener.fetchval("SHOW application_name") == "waemitter listener"
        await listener.close()


async def test_without_a_url_the_environment_of_libpq_counts(
    dsn: str, postgres: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGHOST", str(postgres._socket_directory()))
    monkeypatch.setenv("PGUSER", "postgres")
    monkeypatch.setenv("PGDATABASE", dsn.partition("@/")[2].partition("?")[0])

    async with open_connection(None) as connection:
        assert await connection.fetchval("SELECT waemitter.schema_version()") == 1


async def test_parameters_meant_for_other_drivers_do_no_harm(dsn: str) -> None:
    noise = "&pgbouncer=true&connect_timeout=10&channel_binding=prefer&application_name=ours"
    async with open_connection(dsn + noise) as connection:
        assert await connection.fetchval("SELECT 1") == 1


UNREACHABLE: list[tuple[Callable[[EmbeddedPostgres], str], str]] = [
    (
        lambda _: f"postgresql://me:hunter2@127.0.0.1:{free_port()}/shop",
        r'Postgres at 127\.0\.0\.1:\d+ \(database "shop"\) is not listening there: start it',
    ),
    (lambda _: "postgresql://me:hunter2@/shop?host=/nowhere&port=7", "at /nowhere:7 .*not listen"),
    (lambda _: "postgresql://me:hunter2@no-such-host.invalid/shop", "host name nobody knows"),
    (lambda server: server.dsn("shop") + "&password=hunter2", "no such database: create it"),
    (
        lambda server: server.dsn().replace("postgres@", "somebody:hunter2@"),
        "refuses to let us in: correct the user and the password",
    ),
]


@pytest.mark.parametrize(("url", "advice"), UNREACHABLE)
async def test_what_is_wrong_with_a_connection_is_said_in_one_line_without_the_password(
    postgres: EmbeddedPostgres, url: Callable[[EmbeddedPostgres], str], advice: str
) -> None:
    with pytest.raises(DatabaseUnreachable, match=advice) as caught:
        async with open_pool(url(postgres), size=1):
            raise AssertionError
    assert "hunter2" not in str(caught.value)
    assert "\n" not in str(caught.value)


def demand_password_of(role: str, rules: Path) -> None:
    rules.write_text(f"local all {role} scram-sha-256\n{rules.read_text()}")


async def test_a_wrong_password_is_named_as_such(own_postgres: EmbeddedPostgres) -> None:
    async with open_connection(own_postgres.dsn()) as admin:
        await admin.execute("CREATE ROLE clerk LOGIN PASSWORD 'right'")
        demand_password_of("clerk", Path(await admin.fetchval("SHOW hba_file")))
        await admin.execute("SELECT pg_reload_conf()")
    clerk = own_postgres.dsn().replace("postgres@", "clerk:hunter2@")

    with pytest.raises(DatabaseUnreachable, match="correct the user and the password") as caught:
        await connect_listener(clerk)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "mysql://me:hunter2@host/shop",
        "host=localhost password=hunter2",
        "postgresql://me:hunter2@more@host/shop",
        "postgresql://me:12/hunter2@host/shop",
        "postgresql://me:12#hunter2@host/shop",
        "postgresql://me:12?hunter2@host/shop",
        "postgresql://me:hunter2@host:port/shop",
        "postgresql://me:hunter2@[host/shop",
        "postgresql://me:hunter2@host/shop?sslmode=whatever",
    ],
)
async def test_what_is_no_postgres_url_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(UsageError, match="percent-encoded") as caught:
        await connect_listener(url)
    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is None
