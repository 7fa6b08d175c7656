"""Connections to Postgres: a pool for work, one apart for LISTEN, and errors that say what to do.

jsonb goes in and out as text: rows carry it to where it is needed, and only there it is parsed.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Final, TypeAlias
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit, urlunsplit

import asyncpg

from waemitter.errors import DatabaseUnreachable, UsageError

Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"

CONNECT_TIMEOUT: Final = 10.0
"""Seconds for one connection to be made, the password exchange included."""

CLOSE_TIMEOUT: Final = 5.0
"""Seconds the pool waits for its last borrowers before it cuts their connections."""

_SERVER_NOTICES_OUR_DEATH: Final = {
    "tcp_keepalives_idle": "30",
    "tcp_keepalives_interval": "10",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "60000",  # ms
}
"""Without these, a host that vanishes leaves its row and advisory locks in place for two hours, the
kernel's default. Postgres ignores them on a Unix socket."""

_NOT_FOR_THE_SERVER: Final = frozenset(
    {
        "channel_binding",
        "connect_timeout",
        "connection_limit",
        "gssencmode",
        "keepalives",
        "keepalives_count",
        "keepalives_idle",
        "keepalives_interval",
        "pgbouncer",
        "pool_timeout",
        "schema",
        "supa",
        "tcp_user_timeout",
    }
)
"""URL parameters for libpq and for Prisma, which providers print in the URLs they hand out; the
driver would send them to the server as settings, and the server would refuse the connection."""

_NOT_A_URL: Final = (
    "the database URL is not one: expected postgresql://user:password@host:5432/database, with"
    " special characters of the password percent-encoded (@ as %40, / as %2F, # as %23)"
)

_ADVICE: Final[tuple[tuple[type[BaseException] | tuple[type[BaseException], ...], str], ...]] = (
    (TimeoutError, "does not answer: check the host, the port and the firewall in between"),
    (socket.gaierror, "has a host name nobody knows: correct DATABASE_URL"),
    (
        (ConnectionRefusedError, FileNotFoundError),
        "is not listening there: start it, or correct DATABASE_URL",
    ),
    (
        asyncpg.InvalidAuthorizationSpecificationError,  # a wrong password is one
        "refuses to let us in: correct the user and the password in DATABASE_URL, or pg_hba.conf",
    ),
    (
        asyncpg.InvalidCatalogNameError,
        "has no such database: create it with createdb, or correct DATABASE_URL",
    ),
    (
        asyncpg.TooManyConnectionsError,
        "has no connection left: lower WAEMITTER_DATABASE__POOL_SIZE or raise max_connections",
    ),
    (asyncpg.CannotConnectNowError, "is starting up or shutting down: try again in a moment"),
    (ssl.SSLError, "does not agree on TLS: set sslmode and sslrootcert in DATABASE_URL"),
)
"""What to do about a connection that could not be made; the first that fits."""


@asynccontextmanager
async def open_pool(
    dsn: str | None,
    *,
    size: int,
    application_name: str = "waemitter",
    statement_timeout: float = 30.0,
    transaction_pooler: bool = False,
    at_once: bool = True,
) -> AsyncIterator[asyncpg.Pool[asyncpg.Record]]:
    """Lend a pool of up to `size` connections; `dsn` None means libpq's PG* environment.

    `statement_timeout` in seconds bounds every statement; SET LOCAL lifts it where more is right.
    `transaction_pooler` is for PgBouncer and its like between us and the server: no prepared
    statements are kept and no session settings are sent, so the time-out is the driver's alone.

    Not `at_once`: no connection is made before one is wanted.

    Nothing resets a connection when it comes back, apart from the rollback of an open transaction:
    that would be a further round trip for each use. So set no session state on one, only SET LOCAL
    and transaction-level advisory locks.

    Raises DatabaseUnreachable when the first connection cannot be made, UsageError for a DSN that
    is no Postgres URL.
    """
    settings = {"application_name": application_name}
    if not transaction_pooler:
        settings |= _SERVER_NOTICES_OUR_DEATH | {
            "statement_timeout": f"{statement_timeout * 1000:.0f}",
            "jit": "off",  # compiling a plan costs more than any statement here saves by it
        }
    with _explained(dsn):
        pool = await asyncpg.create_pool(
            _server_dsn(dsn),
            min_size=1 if at_once else 0,
            max_size=size,
            timeout=CONNECT_TIMEOUT,
            # The server's own time-out goes first; this one is for a server that fell silent.
            command_timeout=statement_timeout + (0 if transaction_pooler else 5),
            statement_cache_size=0 if transaction_pooler else 256,
            server_settings=settings,
            reset=_leave_as_is,
        )
    try:
        yield pool
    finally:
        await _close(pool)


@asynccontextmanager
async def open_connection(
    dsn: str | None, *, application_name: str = "waemitter"
) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    """Lend one plain connection, for a command that needs no pool; raises as `open_pool` does."""
    connection = await _connect(dsn, {"application_name": application_name})
    try:
        yield connection
    finally:
        await _hang_up(connection)


async def connect_listener(
    dsn: str | None, *, application_name: str = "waemitter listener"
) -> asyncpg.Connection[asyncpg.Record]:
    """Make the one dedicated connection that LISTENs; the caller closes it.

    `dsn` must lead to the server itself or to a session pooler: behind a transaction pooler LISTEN
    is lost with the transaction. Raises as `open_pool` does.
    """
    return await _connect(dsn, {"application_name": application_name} | _SERVER_NOTICES_OUR_DEATH)


async def connect_through_pooler(
    dsn: str | None, *, application_name: str = "waemitter doctor"
) -> asyncpg.Connection[asyncpg.Record]:
    """Make a connection that works behind any pooler; the caller closes it. Raises as `open_pool` does."""
    return await _connect(dsn, {"application_name": application_name}, statement_cache_size=0)


def is_outage(error: BaseException) -> bool:
    """Whether an error means "Postgres is away for now, try again" rather than a fault of ours."""
    if isinstance(error, asyncpg.InterfaceError):
        # The driver has no type of its own for a use after the connection broke: "connection is
        # closed", or, of a pool's, "connection has been released back to the pool".
        told = str(error)
        return "connection" in told and ("closed" in told or "released" in told)
    return isinstance(
        error,
        (
            OSError,  # TimeoutError is one
            DatabaseUnreachable,
            asyncpg.PostgresConnectionError,
            # The driver's own state is confused: a connection was used in the moment between the
            # server's farewell and the end of the stream.
            asyncpg.InternalClientError,
            asyncpg.OperatorInterventionError,  # shutting down, starting up, statement cancelled
            asyncpg.TransactionRollbackError,  # deadlock: an application locked our rows its way
            asyncpg.InsufficientResourcesError,  # no connection left, disk full
            asyncpg.LockNotAvailableError,
            asyncpg.ReadOnlySQLTransactionError,  # a failover: this is the standby now
        ),
    )


@contextmanager
def outages() -> Iterator[None]:
    """Turn every error that `is_outage` into DatabaseUnreachable; all others pass as they are."""
    try:
        yield
    except DatabaseUnreachable:
        raise
    except Exception as error:
        if not is_outage(error):
            raise
        raise DatabaseUnreachable(f"the database is away: {type(error).__name__}") from error


async def _connect(
    dsn: str | None, settings: dict[str, str], *, statement_cache_size: int = 100
) -> asyncpg.Connection[asyncpg.Record]:
    with _explained(dsn):
        return await asyncpg.connect(
            _server_dsn(dsn),
            timeout=CONNECT_TIMEOUT,
            statement_cache_size=statement_cache_size,
            server_settings=settings,
        )


async def _leave_as_is(_: asyncpg.Connection[asyncpg.Record]) -> None: ...


async def _close(pool: asyncpg.Pool[asyncpg.Record]) -> None:
    try:
        async with asyncio.timeout(CLOSE_TIMEOUT):
            await pool.close()
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
        pool.terminate()


async def _hang_up(connection: asyncpg.Connection[asyncpg.Record]) -> None:
    try:
        await connection.close(timeout=CLOSE_TIMEOUT)
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
        connection.terminate()


def _server_dsn(dsn: str | None) -> str | None:
    """Strip what only other drivers understand; UsageError for what is no Postgres URL."""
    if dsn is None:
        return None
    parts = urlsplit(dsn)
    if parts.scheme not in {"postgres", "postgresql"}:
        raise UsageError(_NOT_A_URL)
    # An unescaped @, / or # in the password: the rest of it would pass for a host or a database.
    if parts.netloc.count("@") > 1 or "@" in parts.path + parts.fragment:
        raise UsageError(_NOT_A_URL)
    query = parse_qsl(parts.query, keep_blank_values=True)
    kept = [(name, value) for name, value in query if name not in _NOT_FOR_THE_SERVER]
    return dsn if kept == query else urlunsplit(parts._replace(query=urlencode(kept)))


@contextmanager
def _explained(dsn: str | None) -> Iterator[None]:
    """Turn the driver's errors into one line that says what to do, and holds no password."""
    try:
        yield
    except (OSError, asyncpg.PostgresError) as error:
        raise DatabaseUnreachable(f"{_target(dsn)} {_advice(error)}") from error
    except ValueError:
        # Without its cause: the driver's words quote the URL where it is at fault.
        raise UsageError(_NOT_A_URL) from None


def _target(dsn: str | None) -> str:
    parts = urlsplit(dsn or "")
    query = dict(parse_qsl(parts.query))
    # Several hosts are legal ("a:1,b:2"), and urlsplit's own hostname and port choke on them.
    host = unquote(parts.netloc.rpartition("@")[2]) or query.get("host") or os.environ.get("PGHOST")
    port = query.get("port") or os.environ.get("PGPORT")
    database = unquote(parts.path[1:]) or query.get("dbname") or os.environ.get("PGDATABASE")
    if host and port and not parts.netloc.rpartition("@")[2]:
        host = f"{host}:{port}"
    place = f"Postgres at {host}" if host else "Postgres on this host"
    return f'{place} (database "{database}")' if database else place


def _advice(error: BaseException) -> str:
    for kinds, advice in _ADVICE:
        if isinstance(error, kinds):
            return advice
    return f"cannot be used: {' '.join(str(error).split()) or type(error).__name__}"
