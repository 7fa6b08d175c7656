"""The database's schema: its text, its putting in place, and the gate that refuses another's.

The SQL itself is in schema.sql, which is idempotent; here is only how it is run.
"""

from __future__ import annotations

from importlib.resources import files
from typing import Any, Final, TypeAlias

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from waemitter.errors import SchemaNotSupported, WaemitterError

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record] | PoolConnectionProxy[asyncpg.Record]"

VERSION: Final = 1
"""The schema version this release works with, as schema.sql's `schema_version()` returns it."""

APPLY_COMMAND: Final = "waemitter schema apply"


def text() -> str:
    """Return the whole of schema.sql, for psql or a migration tool."""
    return files("waemitter").joinpath("schema.sql").read_text(encoding="utf-8")


_LIMITS: Final = "SET LOCAL lock_timeout = '5s'; SET LOCAL statement_timeout = 0"

# The key is arbitrary; it only has to be the same in every release.
_ONE_AT_A_TIME: Final = "SELECT pg_advisory_xact_lock(5134210987341)"


async def apply(connection: Connection) -> list[str]:
    """Create the schema, or bring it up to date; a second time changes nothing.

    All of it happens in one transaction, one process at a time, waiting at most five seconds for
    any one lock, and so never making others queue behind it for longer. Returns what the script had
    to say to an operator, for example which roles it was not allowed to create.

    Raises SchemaNotSupported when a newer release's schema is in place, and WaemitterError when a
    lock was not to be had or a right is missing; either way the database is as it was.
    """
    said: list[str] = []

    def hear(_: Any, message: asyncpg.PostgresLogMessage) -> None:
        # Only the script's own RAISE, not "already exists, skipping" for each table.
        if getattr(message, "server_source_function", None) == "exec_stmt_raise":
            said.append(str(message.as_dict()["message"]))

    connection.add_log_listener(hear)
    try:
        async with connection.transaction():
            await connection.execute(_LIMITS)
            await connection.execute(_ONE_AT_A_TIME)
            installed = await installed_version(connection)
            if installed is not None and installed > VERSION:
                raise SchemaNotSupported(_difference(installed))
            await connection.execute(text())
    except asyncpg.LockNotAvailableError:
        raise WaemitterError(
            "another transaction holds a lock on the schema's tables: end it, then run "
            f"`{APPLY_COMMAND}` again (nothing was changed)"
        ) from None
    except asyncpg.InsufficientPrivilegeError as error:
        raise WaemitterError(
            f"{error}: run `{APPLY_COMMAND}` as the owner of the database (nothing was changed)"
        ) from error
    finally:
        connection.remove_log_listener(hear)
    return said


_INSTALLED: Final = "SELECT to_regprocedure('waemitter.schema_version()') IS NOT NULL"
_INSTALLED_VERSION: Final = "SELECT waemitter.schema_version()"


async def installed_version(connection: Connection) -> int | None:
    """Return the version of the schema in the database; None when it has none.

    Raises SchemaNotSupported when the schema is there, and closed to this database user.
    """
    try:
        # Two statements: a single one that names a function which is not there does not parse.
        if not await connection.fetchval(_INSTALLED):
            return None
        version: int = await connection.fetchval(_INSTALLED_VERSION)
    except asyncpg.InsufficientPrivilegeError:
        raise SchemaNotSupported(
            "this database user may not use schema waemitter: as its owner run"
            " GRANT waemitter_daemon TO <user>"
        ) from None
    return version


async def require(connection: Connection) -> None:
    """Return when the database's schema is the one this release works with.

    Raises SchemaNotSupported with what to do about it otherwise.
    """
    installed = await installed_version(connection)
    if installed != VERSION:
        raise SchemaNotSupported(_difference(installed))


def _difference(installed: int | None) -> str:
    if installed is None:
        return f"the database has no waemitter schema: run `{APPLY_COMMAND}`"
    if installed < VERSION:
        return f"the schema is version {installed}, not {VERSION}: run `{APPLY_COMMAND}`"
    return (
        f"the schema is version {installed} and this release only knows {VERSION}: install the"
        " release of waemitter that the schema belongs to"
    )
