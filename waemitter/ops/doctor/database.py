"""Postgres, as the daemon will meet it."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from typing import Final

from waemitter.db import schema
from waemitter.db.pool import connect_listener, connect_through_pooler
from waemitter.errors import SchemaNotSupported, WaemitterError
from waemitter.ops.doctor import store
from waemitter.ops.doctor.finding import Finding, ok, problem, skipped, warning

OLDEST: Final = 140_000  # server_version_num
SKEW: Final = 2.0  # seconds
HEARD_WITHIN: Final = 3.0
LISTENERS: Final = "listen"
RINGING: Final = ("outbox_insert_trigger", "outbox_retry_trigger")
FIRES: Final = ("O", "A")


async def database_findings(dsn: str | None, listen_dsn: str | None) -> AsyncIterator[Finding]:
    """`dsn` as of the settings; `listen_dsn`: for LISTEN, where it is another."""
    async with AsyncExitStack() as stack:
        try:
            connection = await connect_through_pooler(dsn)
            stack.push_async_callback(connection.close, timeout=2)
            found = await store.server(connection)
        except (WaemitterError, OSError) as error:
            yield problem("database", str(error), "start Postgres, or correct DATABASE_URL")
            return
        yield _server(found)
        yield await _clock(connection)
        yield await _pooler(connection, dsn, listen_dsn)
        yield await _listen(connection, listen_dsn or dsn)
        async for finding in _schema(connection, found.login):
            yield finding


def _server(found: store.Server) -> Finding:
    said = f"Postgres {found.version // 10_000}, database {found.database}, as {found.login}"
    if found.standby:
        return problem(
            "database", f"{said}: a standby", "give the primary's address; the queue is written to"
        )
    if found.version < OLDEST:
        return problem("database", said, "waemitter needs Postgres 14 or newer")
    return ok("database", said)


async def _clock(connection: store.Connection) -> Finding:
    before = time.time()
    there = await store.clock(connection)
    skew = there - (before + time.time()) / 2
    said = f"{abs(skew):.1f} s {'ahead of' if skew > 0 else 'behind'} this machine's"
    if abs(skew) > SKEW:
        return warning(
            "clock",
            f"the server's clock is {said}",
            "let both follow NTP; due times are the server's, log lines this machine's",
        )
    return ok("clock", f"the server's clock is within {SKEW:.0f} s of this machine's")


async def _pooler(connection: store.Connection, dsn: str | None, listen_dsn: str | None) -> Finding:
    other = await connect_through_pooler(dsn)
    try:
        kept = await store.sessions_are_kept(connection, other)
    finally:
        await other.close(timeout=2)
    if kept:
        return ok("pooler", "a session is a server's session: direct, or a pooler in session mode")
    return problem(
        "pooler",
        "DATABASE_URL leads to a transaction pooler",
        "point DATABASE_URL at the server itself or a pooler in session mode: the daemon's statements are prepared"
        if listen_dsn
        else "point DATABASE_URL at the server itself or a pooler in session mode (Supabase: port 5432, not 6543)",
    )


async def _listen(telling: store.Connection, dsn: str | None) -> Finding:
    remedy = "set WAEMITTER_DATABASE__LISTEN_URL to the server's own address, past any transaction pooler"
    try:
        listening = await connect_listener(dsn)
    except WaemitterError as error:
        return problem(LISTENERS, str(error), remedy)
    try:
        took = await store.round_trip(listening, telling, within=HEARD_WITHIN)
    finally:
        await listening.close(timeout=2)
    if took is None:
        return problem(LISTENERS, "a notification was sent and did not arrive", remedy)
    return ok(LISTENERS, f"a notification arrives after {took * 1000:.1f} ms")


async def _schema(connection: store.Connection, login: str) -> AsyncIterator[Finding]:
    try:
        await schema.require(connection)
    except SchemaNotSupported as error:
        reason, _, remedy = str(error).rpartition(": ")
        yield problem("schema", reason, remedy)
        yield skipped("triggers", "there is no schema to look at")
        yield skipped("alerts", "there is no schema to look at")
        return
    yield ok("schema", f"version {await schema.installed_version(connection)}")
    closed = await store.forbidden(connection)
    if closed:
        yield problem(
            "rights",
            f"{login} may not use {', '.join(closed)}",
            f"as the owner: GRANT waemitter_daemon TO {login}",
        )
    else:
        yield ok("rights", f"{login} may use every table of the schema")
    yield _triggers(await store.triggers(connection))
    if not closed:
        yield _alerts(await store.alerts(connection))


def _alerts(firing: Sequence[store.Alert]) -> Finding:
    if not firing:
        return ok("alerts", "none is firing")
    return warning(
        "alerts",
        "; ".join(alert.summary for alert in firing),
        "; ".join(dict.fromkeys(alert.action for alert in firing)),
    )


def _triggers(found: dict[str, str]) -> Finding:
    missing = [name for name in RINGING if name not in found]
    if missing:
        return problem(
            "triggers", f"{', '.join(missing)} is not there", f"run `{schema.APPLY_COMMAND}`"
        )
    silent = [name for name, state in found.items() if state not in FIRES]
    if silent:
        return problem(
            "triggers",
            f"{', '.join(silent)} is switched off: messages wait for the sweep",
            f"as the owner: ALTER TABLE waemitter.outbox_messages ENABLE TRIGGER {silent[0]}",
        )
    return ok("triggers", "inserts and retries ring the bell")
