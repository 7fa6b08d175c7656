"""The schema: put in place, gated, on every version of Postgres."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

from waemitter.db import schema
from waemitter.db.pool import open_connection
from waemitter.errors import SchemaNotSupported, WaemitterError


async def dump(connection: asyncpg.Connection[asyncpg.Record]) -> list[asyncpg.Record]:
    """Every object of the schema as text, in an order of its own."""
    return await connection.fetch(
        """
        SELECT 'column', attrelid::regclass::text, attname, format_type(atttypid, atttypmod)
          FROM pg_attribute JOIN pg_class c ON c.oid = attrelid
         WHERE relnamespace = 'waemitter'::regnamespace AND attnum > 0 AND NOT attisdropped
        UNION ALL
        SELECT 'constraint', conrelid::regclass::text, conname, pg_get_constraintdef(oid)
          FROM pg_constraint WHERE connamespace = 'waemitter'::regnamespace
        UNION ALL
        SELECT 'function', oid::regprocedure::text, '', pg_get_functiondef(oid)
          FROM pg_proc WHERE pronamespace = 'waemitter'::regnamespace
        UNION ALL
        SELECT 'index', tablename, indexname, indexdef
          FROM pg_indexes WHERE schemaname = 'waemitter'
        UNION ALL
        SELECT 'trigger', tgrelid::regclass::text, tgname, pg_get_triggerdef(t.oid)
          FROM pg_trigger t JOIN pg_class c ON c.oid = tgrelid
         WHERE relnamespace = 'waemitter'::regnamespace AND NOT tgisinternal
        UNION ALL
        SELECT 'policy', tablename, policyname, coalesce(qual, '') || coalesce(with_check, '')
          FROM pg_policies WHERE schemaname = 'waemitter'
        ORDER BY 1, 2, 3, 4
        """
    )


async def test_applying_twice_changes_nothing_on_any_version(any_postgres_version: str) -> None:
    async with open_connection(any_postgres_version) as connection:
        await schema.apply(connection)
        once = await dump(connection)
        await schema.apply(connection)

        assert await dump(connection) == once
        assert len(once) > 50


async def test_the_version_gate_opens_only_after_the_schema_is_applied(
    any_postgres_version: str,
) -> None:
    async with open_connection(any_postgres_version) as connection:
        assert await schema.installed_version(connection) is None
        with pytest.raises(SchemaNotSupported, match="run `waemitter schema apply`"):
            await schema.require(connection)

        await schema.apply(connection)

        await schema.require(connection)
        assert await schema.installed_version(connection) == schema.VERSION


async def test_a_newer_schema_is_neither_used_nor_overwritten(
    connection: asyncpg.Connection[asyncpg.Record],
) -> None:
    newer = "CREATE OR REPLACE FUNCTION waemitter.schema_version() RETURNS integer RETURN 2"
    await connection.execute(newer)

    with pytest.raises(SchemaNotSupported, match="is made for 1"):
        await schema.require(connection)
    with pytest.raises(SchemaNotSupported, match="is made for 1"):
        await schema.apply(connection)

    assert await schema.installed_version(connection) == 2


async def test_a_user_without_rights_is_told_which_to_grant(
    dsn: str, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    await connection.execute("CREATE ROLE stranger LOGIN")
    try:
        async with open_connection(dsn.replace("postgres@", "stranger@")) as stranger:
            with pytest.raises(SchemaNotSupported, match="GRANT waemitter_daemon"):
                await schema.require(stranger)
            with pytest.raises(SchemaNotSupported, match="GRANT waemitter_daemon"):
                await schema.apply(stranger)
    finally:
        await connection.execute("DROP ROLE stranger")


async def test_ten_at_once_apply_it_once_each_without_an_error(any_postgres_version: str) -> None:
    async def apply() -> None:
        async with open_connection(any_postgres_version) as connection:
            await schema.apply(connection)

    async with asyncio.TaskGroup() as group:
        for _ in range(10):
            group.create_task(apply())

    async with open_connection(any_postgres_version) as connection:
        await schema.require(connection)


async def test_a_held_lock_ends_apply_with_advice_and_no_change(
    dsn: str, connection: asyncpg.Connection[asyncpg.Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema, "_LIMITS", "SET LOCAL lock_timeout = '50ms'")
    before = await dump(connection)

    async with open_connection(dsn) as other, other.transaction():
        await other.execute("LOCK TABLE waemitter.outbox_messages IN ACCESS SHARE MODE")
        monkeypatch.setattr(schema, "text", lambda: "DROP TABLE waemitter.outbox_messages CASCADE")
        with pytest.raises(WaemitterError, match="this step changed nothing"):
            await schema.apply(connection)

    assert await dump(connection) == before


async def test_what_the_script_says_reaches_the_operator_and_nothing_else(
    connection: asyncpg.Connection[asyncpg.Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    script = """
        CREATE TABLE IF NOT EXISTS waemitter.outbox_messages ();
        DO $$ BEGIN RAISE WARNING 'role % was not created', 'x'; END $$;
    """
    monkeypatch.setattr(schema, "text", lambda: script)

    assert await schema.apply(connection) == ["role x was not created"]
