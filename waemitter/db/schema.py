"""The database's schema: its text, its putting in place, and the gate that refuses another's.

The SQL itself is in schema.sql, which is idempotent, and in the migrations, which lead from one release's tables to the
next one's; here is only how they are run.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Final, NamedTuple, TypeAlias

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from waemitter.db.migration import Migration, packaged
from waemitter.errors import SchemaNotSupported, WaemitterError

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record] | PoolConnectionProxy[asyncpg.Record]"

VERSION: Final = 1
"""The schema version this release works with, as schema.sql's `schema_version()` returns it."""

APPLY_COMMAND: Final = "waemitter schema apply"

LISTENER: Final = f"waemitter listener, schema {VERSION}"
"""The application_name of a daemon's LISTEN connection: so `apply` sees who would be left behind."""

PATIENCE: Final = 60.0
"""Seconds to wait while another process applies the schema."""
LOOK_AGAIN: Final = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """A version of the schema: the whole of it, and the steps that lead there."""

    version: int
    sql: str
    migrations: Sequence[Migration]


def text() -> str:
    """Return the whole of schema.sql, for psql or a migration tool."""
    return files("waemitter").joinpath("schema.sql").read_text(encoding="utf-8")


def this_release() -> Release:
    return Release(version=VERSION, sql=text(), migrations=packaged())


def script(release: Release, *, since: int | None) -> str:
    """Return what psql needs: the migrations behind version `since` (None: a new database), then the whole."""
    steps = [] if since is None else [m for m in release.migrations if m.version > since]
    return "\n".join([*(step.script() for step in steps), release.sql])


_LIMITS: Final = "SET LOCAL lock_timeout = '5s'; SET LOCAL statement_timeout = 0"


async def apply(connection: Connection, release: Release | None = None) -> list[str]:
    """Create the schema, or bring it up to date; a second time changes nothing.

    Migrations that the database has not seen run first, each in a transaction of its own (or in none, where it says so); then
    schema.sql, in one. One process at a time does this. Each waits at most five seconds for any one lock, and so never makes
    others queue behind it for longer. Returns what the scripts had to say to an operator, for example which roles they were not
    allowed to create.

    Raises SchemaNotSupported when a newer release's schema is in place, and WaemitterError when a lock was not to be had, a right
    is missing, or daemons run that could not go on; what was done until then stays, and a further call goes on behind it.
    """
    release = release or this_release()
    said: list[str] = []

    def hear(_: Any, message: asyncpg.PostgresLogMessage) -> None:
        # Only the script's own RAISE, not "already exists, skipping" for each table.
        if getattr(message, "server_source_function", None) == "exec_stmt_raise":
            said.append(str(message.as_dict()["message"]))

    connection.add_log_listener(hear)
    try:
        async with _alone(connection):
            state = await look(connection)
            if state is not None and state.version > release.version:
                raise SchemaNotSupported(_difference(state, release.version))
            for migration in await _due(connection, release, state):
                await _migrate(connection, migration)
            async with connection.transaction():
                await connection.execute(_LIMITS)
                await connection.execute(release.sql)
    except asyncpg.LockNotAvailableError:
        raise WaemitterError(
            "another transaction holds a lock on the schema's tables: end it, then run "
            f"`{APPLY_COMMAND}` again (this step changed nothing)"
        ) from None
    except asyncpg.InsufficientPrivilegeError as error:
        raise WaemitterError(
            f"{error}: run `{APPLY_COMMAND}` as the owner of the database (this step changed nothing)"
        ) from error
    finally:
        connection.remove_log_listener(hear)
    return said


# The key is arbitrary; it only has to be the same in every release.
_TRY_LOCK: Final = "SELECT pg_try_advisory_lock(5134210987341)"
_UNLOCK: Final = "SELECT pg_advisory_unlock(5134210987341)"


@asynccontextmanager
async def _alone(connection: Connection) -> AsyncIterator[None]:
    """One process at a time.

    Asked for again and again, since a session that waits in a statement holds a snapshot, which the other's
    CREATE INDEX CONCURRENTLY would wait for: a deadlock.
    """
    try:
        async with asyncio.timeout(PATIENCE):
            while not await connection.fetchval(_TRY_LOCK):  # noqa: ASYNC110 it is another process's
                await asyncio.sleep(LOOK_AGAIN)
    except TimeoutError:
        raise WaemitterError(
            f"another `{APPLY_COMMAND}` is at work: wait until it has ended (nothing was changed)"
        ) from None
    try:
        yield
    finally:
        if not connection.is_closed():
            await connection.execute(_UNLOCK)


_SEEN: Final = "SELECT version FROM waemitter.schema_migrations"


async def pending(connection: Connection, release: Release) -> list[Migration]:
    """The migrations of a release that the database, which has a schema of ours, has not seen."""
    seen = {record["version"] for record in await connection.fetch(_SEEN)}
    return [migration for migration in release.migrations if migration.version not in seen]


async def _due(connection: Connection, release: Release, state: State | None) -> list[Migration]:
    """The migrations that are to be run. Raises WaemitterError when a daemon is there that could not go on."""
    if state is None:
        return []
    due = await pending(connection, release)
    oldest = max((migration.oldest_daemon for migration in due), default=0)
    running = await daemons(connection)
    left = [f"{n} of schema {made_for}" for made_for, n in running.items() if made_for < oldest]
    if left:
        raise WaemitterError(
            f"daemons still run that could not go on ({', '.join(left)}; schema {oldest} or newer is asked for): upgrade or stop"
            f" them, then run `{APPLY_COMMAND}` again (nothing was changed)"
        )
    return due


_RECORD: Final = """
    INSERT INTO waemitter.schema_migrations (version, name, oldest_daemon) VALUES ($1, $2, $3)
"""


async def _migrate(connection: Connection, migration: Migration) -> None:
    row = (migration.version, migration.name, migration.oldest_daemon)
    if not migration.transactional:
        await _drop_invalid_indexes(connection)
        await _unbounded(connection, migration.sql)
        await connection.execute(_RECORD, *row)
        return
    async with connection.transaction():
        await connection.execute(_LIMITS)
        await connection.execute(_RECORD, *row)
        await connection.execute(migration.sql)


_INVALID: Final = """
    SELECT format('DROP INDEX CONCURRENTLY IF EXISTS waemitter.%I', c.relname) AS statement
    FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
    WHERE c.relnamespace = 'waemitter'::regnamespace AND NOT i.indisvalid
"""


async def _drop_invalid_indexes(connection: Connection) -> None:
    """Remove what an interrupted CREATE INDEX CONCURRENTLY left: IF NOT EXISTS would take it for the index."""
    for record in await connection.fetch(_INVALID):
        await _unbounded(connection, record["statement"])


_UNBOUNDED: Final = "SET lock_timeout = 0; SET statement_timeout = 0"
_BOUNDED: Final = "RESET lock_timeout; RESET statement_timeout"


async def _unbounded(connection: Connection, statement: str) -> None:
    """Run a statement outside of a transaction. It waits for older transactions, however long those take, and blocks nobody."""
    await connection.execute(_UNBOUNDED)
    try:
        await connection.execute(statement, timeout=None)
    finally:
        if not connection.is_closed():
            await connection.execute(_BOUNDED)


class State(NamedTuple):
    """What is in the database.

    `oldest_daemon`: of a newer schema, the least version that a daemon may have been made for; None: nobody says.
    """

    version: int
    oldest_daemon: int | None


_INSTALLED: Final = """
    SELECT to_regprocedure('waemitter.schema_version()') IS NOT NULL
       AND to_regclass('waemitter.schema_migrations') IS NOT NULL
"""
_INSTALLED_VERSION: Final = "SELECT waemitter.schema_version()"
_OLDEST_DAEMON: Final = """
    SELECT max(oldest_daemon) FROM waemitter.schema_migrations HAVING bool_or(version = $1)
"""


async def look(connection: Connection) -> State | None:
    """Return what is in the database; None when it has no schema of ours.

    Raises SchemaNotSupported when the schema is there, and closed to this database user.
    """
    try:
        # Two statements: a single one that names a function which is not there does not parse.
        if not await connection.fetchval(_INSTALLED):
            return None
        version: int = await connection.fetchval(_INSTALLED_VERSION)
        if version <= VERSION:
            return State(version, None)
        return State(version, await connection.fetchval(_OLDEST_DAEMON, version))
    except asyncpg.InsufficientPrivilegeError:
        raise SchemaNotSupported(
            "this database user may not use schema waemitter: as its owner run"
            " GRANT waemitter_daemon TO <user>"
        ) from None


_DAEMONS: Final = r"""
    SELECT made_for, count(*) AS n
    FROM (SELECT substring(application_name FROM '^waemitter listener, schema (\d{1,9})$')::integer AS made_for
          FROM pg_stat_activity WHERE datname = current_database()) a
    WHERE made_for IS NOT NULL GROUP BY 1 ORDER BY 1
"""


async def daemons(connection: Connection) -> Mapping[int, int]:
    """How many daemons are connected to this database, by the schema version that they were made for."""
    return {record["made_for"]: record["n"] for record in await connection.fetch(_DAEMONS)}


async def installed_version(connection: Connection) -> int | None:
    """Return the version of the schema in the database; None when it has none. Raises as `look`."""
    state = await look(connection)
    return None if state is None else state.version


async def require(connection: Connection) -> None:
    """Return when this release works with the database's schema: its own, or a newer one that still takes its daemons.

    Raises SchemaNotSupported with what to do about it otherwise.
    """
    state = await look(connection)
    if state is None or not _works(state):
        raise SchemaNotSupported(_difference(state, VERSION))


def _works(state: State) -> bool:
    if state.version <= VERSION:
        return state.version == VERSION
    return state.oldest_daemon is not None and state.oldest_daemon <= VERSION


def _difference(state: State | None, version: int) -> str:
    if state is None:
        return f"the database has no waemitter schema: run `{APPLY_COMMAND}`"
    if state.version < version:
        return f"the schema is version {state.version}, not {version}: run `{APPLY_COMMAND}`"
    least = f"{state.oldest_daemon} or newer" if state.oldest_daemon else f"{state.version}"
    return (
        f"the schema is version {state.version}, and this release of waemitter is made for {version}: install one that is made"
        f" for {least}"
    )
