"""What the doctor asks of Postgres. A connection's errors pass as they are."""

from __future__ import annotations

import asyncio
import secrets
from typing import Any, Final, NamedTuple, TypeAlias

import asyncpg

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

CHANNEL: Final = "waemitter_doctor"

SERVER: Final = """
    select current_setting('server_version_num')::integer as version, current_user::text as login,
           current_database()::text as database, pg_is_in_recovery() as standby
"""


class Server(NamedTuple):
    version: int
    login: str
    database: str
    standby: bool


async def server(connection: Connection) -> Server:
    record = await connection.fetchrow(SERVER)
    assert record is not None  # noqa: S101 a row of functions
    return Server(*record)


CLOCK: Final = "select extract(epoch from clock_timestamp())::float8"


async def clock(connection: Connection) -> float:
    """Seconds since 1970, by the server."""
    now: float = await connection.fetchval(CLOCK)
    return now


TRIGGERS: Final = """
    select tgname::text, tgenabled::text from pg_trigger
    where tgrelid = 'waemitter.outbox_messages'::regclass and not tgisinternal
"""


async def triggers(connection: Connection) -> dict[str, str]:
    """Name to state, as pg_trigger.tgenabled has it: O and A fire, D and R do not."""
    return dict([tuple(record) for record in await connection.fetch(TRIGGERS)])


FORBIDDEN: Final = """
    select c.relname::text from pg_class c
    where c.relnamespace = 'waemitter'::regnamespace and c.relkind = 'r'
      and not has_table_privilege(c.oid, 'select, insert, update, delete')
    order by 1
"""


async def forbidden(connection: Connection) -> list[str]:
    """The tables of the schema that this login may not use as a daemon does."""
    return [record[0] for record in await connection.fetch(FORBIDDEN)]


ALERTS: Final = """
    select summary, action from waemitter.alerts where ended_at is null and fired_at is not null
    order by severity, fired_at, id limit 5
"""


class Alert(NamedTuple):
    summary: str
    action: str


async def alerts(connection: Connection) -> list[Alert]:
    """What daemons found wrong and is not over, the most urgent first; at most five."""
    return [Alert(*record) for record in await connection.fetch(ALERTS)]


NOTIFY: Final = "select pg_notify($1, $2)"


async def round_trip(listening: Connection, telling: Connection, *, within: float) -> float | None:
    """Seconds until a notification of one arrived at the other; None when none did."""
    loop = asyncio.get_running_loop()
    heard: asyncio.Future[None] = loop.create_future()
    word = secrets.token_hex(8)

    def hear(_connection: Any, _pid: int, _channel: str, payload: object) -> None:
        if payload == word and not heard.done():
            heard.set_result(None)

    await listening.add_listener(CHANNEL, hear)
    try:
        begun = loop.time()
        await telling.fetchval(NOTIFY, CHANNEL, word)
        async with asyncio.timeout(within):
            await heard
        return loop.time() - begun
    except TimeoutError:
        return None
    finally:
        await listening.remove_listener(CHANNEL, hear)


REMEMBER: Final = "select set_config('waemitter.doctor', $1, false)"
REMEMBERED: Final = "select current_setting('waemitter.doctor', true)"


async def sessions_are_kept(one: Connection, other: Connection) -> bool:
    """Whether a session is a server's session: behind a transaction pooler two of ours may get the same one in turn."""
    await one.fetchval(REMEMBER, "one")
    await other.fetchval(REMEMBER, "other")
    return bool(await one.fetchval(REMEMBERED) == "one")
