"""The doctor, before anything is set up, with everything right, and with one thing wrong after the other."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import asyncpg
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from tests.support import eventually, scratch
from waemitter.ops.doctor import Finding, Verdict, examine
from waemitter.ops.doctor.database import database_findings
from waemitter.settings import load
from waemitter.whatsapp.signature import verify

SECRET, WORD, NUMBER = "app-secret", "verify-word", "111000111"


async def examined(url: str | None = None, **environ: str) -> dict[str, Finding]:
    """By check; the last of several."""
    found = load(environ=environ, config=None)
    return {finding.check: finding async for finding in examine(found, url=url)}


def verdicts(findings: Mapping[str, Finding]) -> dict[str, str]:
    return {check: finding.verdict.value for check, finding in findings.items()}


@asynccontextmanager
async def meta(status: int, answer: object) -> AsyncIterator[str]:
    async def number(_: web.Request) -> web.Response:
        return web.json_response(answer, status=status)

    app = web.Application()
    app.router.add_get("/v24.0/{number}", number)
    async with TestServer(app) as server:
        yield str(server.make_url("/v24.0"))


@asynccontextmanager
async def door(
    *, secret: str = SECRET, word: str = WORD, others: int | None = None
) -> AsyncIterator[str]:
    """A daemon's front, as far as the doctor looks; `others`: a proxy that answers everything itself."""

    async def live(_: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def handshake(request: web.Request) -> web.Response:
        if request.query.get("hub.verify_token") != word:
            raise web.HTTPForbidden
        return web.Response(text=request.query["hub.challenge"])

    async def receive(request: web.Request) -> web.Response:
        if others is not None:
            return web.Response(status=others)
        signed = verify([secret], await request.read(), request.headers.get("X-Hub-Signature-256"))
        return web.Response(status=200 if signed else 401)

    app = web.Application()
    app.router.add_get("/health/live", live)
    app.router.add_get("/webhooks/whatsapp", handshake)
    app.router.add_post("/webhooks/whatsapp", receive)
    async with TestServer(app) as server:
        yield str(server.make_url(""))


def credentials(graph: str, address: str) -> dict[str, str]:
    return {
        "WHATSAPP_API_URL": graph,
        "WHATSAPP_ACCESS_TOKEN": "token",
        "WHATSAPP_PHONE_NUMBER_ID": NUMBER,
        "WHATSAPP_APP_SECRET": SECRET,
        "WHATSAPP_VERIFY_TOKEN": WORD,
        "WAEMITTER_HTTP__PORT": str(urlsplit(address).port),
    }


AVAILABLE = {"health_status": {"can_send_message": "AVAILABLE", "entities": []}}


async def test_before_anything_is_set_up_it_says_where_to_begin() -> None:
    found = await examined()
    assert found["settings"].verdict == "problem"
    assert found["database"].verdict == found["number"].verdict == "skipped"
    assert found["webhook"].verdict == "skipped"


async def test_with_everything_right_it_says_so(dsn: str) -> None:
    async with meta(200, AVAILABLE) as graph, door() as address:
        found = await examined(DATABASE_URL=dsn, **credentials(graph, address))
    assert set(verdicts(found).values()) == {"ok"}
    assert set(found) == {
        *("settings", "database", "clock", "pooler", "listen", "schema", "rights", "triggers"),
        "alerts",
        *("number", "port", "handshake", "signature", "stranger"),
    }


# --- Postgres -----------------------------------------------------------------------------------------------------------------


async def of_database(dsn: str, listen: str | None = None) -> dict[str, Finding]:
    return {finding.check: finding async for finding in database_findings(dsn, listen)}


async def test_a_server_that_is_away_ends_the_database_s_part() -> None:
    found = await of_database("postgresql://localhost:1/app")
    assert verdicts(found) == {"database": "problem"}
    assert "localhost:1" in found["database"].said


async def test_a_database_without_the_schema_gets_the_command(
    dsn: str, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    await connection.execute("drop schema waemitter cascade")
    found = await of_database(dsn)
    assert (found["schema"].verdict, found["schema"].remedy) == (
        "problem",
        "run `waemitter schema apply`",
    )
    assert found["triggers"].verdict == "skipped"


@pytest.mark.parametrize(
    ("harm", "check", "remedy"),
    [
        (
            "alter table waemitter.outbox_messages disable trigger outbox_insert_trigger",
            "triggers",
            "ENABLE TRIGGER outbox_insert_trigger",
        ),
        (
            "drop trigger outbox_retry_trigger on waemitter.outbox_messages",
            "triggers",
            "schema apply",
        ),
    ],
)
async def test_a_bell_that_cannot_ring_is_found(
    dsn: str, connection: asyncpg.Connection[asyncpg.Record], harm: str, check: str, remedy: str
) -> None:
    await connection.execute(harm)
    found = (await of_database(dsn))[check]
    assert found.verdict == "problem"
    assert remedy in str(found.remedy)


async def test_a_login_without_rights_gets_the_grant(
    dsn: str, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    name = f"nobody_{os.urandom(4).hex()}"
    await connection.execute(f"create role {name} login; grant usage on schema waemitter to {name}")
    await connection.execute(f"grant execute on all functions in schema waemitter to {name}")
    try:
        found = await of_database(dsn.replace("postgres@", f"{name}@"))
    finally:
        await connection.execute(f"drop owned by {name}; drop role {name}")
    assert found["rights"].verdict == "problem"
    assert found["rights"].remedy == f"as the owner: GRANT waemitter_daemon TO {name}"
    assert "outbox_messages" in found["rights"].said


async def test_what_daemons_found_wrong_is_told(
    dsn: str, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    await connection.execute(
        "insert into waemitter.alerts (name, severity, summary, action, value, hold, seen_until, fired_at)"
        " values ('a', 'page', '11 dead letters wait', 'look at them', 11, '0', now(), now()),"
        " ('b', 'page', 'not yet', 'wait', 11, '0', now(), null)"
    )
    found = (await of_database(dsn))["alerts"]
    assert (found.verdict, found.said, found.remedy) == (
        "warning",
        "11 dead letters wait",
        "look at them",
    )


async def test_an_address_for_listening_that_leads_nowhere_is_found(dsn: str) -> None:
    found = await of_database(dsn, "postgresql://localhost:1/app")
    assert found["listen"].verdict == "problem"
    assert "LISTEN_URL" in str(found["listen"].remedy)


async def test_another_database_s_notifications_do_not_arrive(dsn: str) -> None:
    elsewhere = urlsplit(dsn)._replace(path="/postgres").geturl()
    found = await of_database(dsn, elsewhere)
    assert (found["listen"].verdict, found["listen"].said) == (
        "problem",
        "a notification was sent and did not arrive",
    )


@pytest.fixture
def pgbouncer(dsn: str) -> Iterator[str]:
    """A transaction pooler before the test's database."""
    parts = urlsplit(dsn)
    sockets = Path(parse_qs(parts.query)["host"][0])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with scratch() as directory:
        directory.chmod(0o755)
        settings = directory / "pgbouncer.ini"
        settings.write_text(
            f"[databases]\n* = host={sockets} user=postgres\n"
            f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n"
            "auth_type = any\nunix_socket_dir =\npool_mode = transaction\n"
        )
        # It refuses to be root, and the server's socket is closed to all but the server's account.
        account = ["-u", sockets.owner()] if os.geteuid() == 0 else []
        command = ["pgbouncer", "-q", *account, str(settings)]
        with (
            (directory / "log").open("w") as log,
            subprocess.Popen(command, stderr=log) as process,
        ):
            yield f"postgresql://postgres@127.0.0.1:{port}{parts.path}"
            process.terminate()


async def reachable(url: str) -> bool:
    connection = await asyncpg.connect(url, statement_cache_size=0)
    await connection.close()
    return True


@pytest.mark.tool("pgbouncer", package="pgbouncer")
async def test_a_transaction_pooler_is_found(dsn: str, pgbouncer: str) -> None:
    up: Callable[[], Awaitable[bool] | bool] = lambda: reachable(pgbouncer)  # noqa: E731 for mypy's sake
    await eventually(up)
    found = await of_database(pgbouncer, dsn)
    assert found["pooler"].verdict == "problem"
    assert found["listen"].verdict == "ok"  # by the direct address


# --- Meta ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "answer", "verdict", "word"),
    [
        (401, {"error": {"code": 190, "message": "Session has expired"}}, "problem", "system user"),
        (
            400,
            {"error": {"code": 100, "message": "Unsupported get request"}},
            "problem",
            "neither the phone number",
        ),
        (502, {}, "problem", ""),
        (200, {"health_status": {"can_send_message": "BLOCKED"}}, "problem", "WhatsApp Manager"),
        (
            200,
            {
                "health_status": {
                    "can_send_message": "LIMITED",
                    "entities": [
                        {"entity_type": "WABA", "errors": [{"error_description": "unpaid"}]}
                    ],
                }
            },
            "warning",
            "WhatsApp Manager",
        ),
    ],
)
async def test_what_meta_says_of_a_number_has_its_remedy(
    status: int, answer: object, verdict: str, word: str
) -> None:
    async with meta(status, answer) as graph, door() as address:
        found = (await examined(**credentials(graph, address)))["number"]
    assert found.verdict == verdict
    assert found.remedy is not None
    assert word in found.remedy
    assert "token" not in found.said.replace("access token", "")


async def test_a_meta_that_cannot_be_reached_is_told_from_one_that_refuses() -> None:
    async with door() as address:
        found = (await examined(**credentials("http://127.0.0.1:1/v24.0", address)))["number"]
    assert found.verdict == "problem"
    assert "graph.facebook.com:443" in str(found.remedy)


# --- the own address ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "check", "verdict"),
    [
        ({"secret": "another"}, "signature", "problem"),
        ({"word": "another"}, "handshake", "problem"),
        ({"others": 503}, "signature", "problem"),
        ({"others": 200}, "stranger", "warning"),
    ],
)
async def test_a_door_that_would_turn_meta_away_is_found(
    fault: dict[str, object], check: str, verdict: str
) -> None:
    async with meta(200, AVAILABLE) as graph, door(**fault) as address:  # type: ignore[arg-type]
        found = (await examined(**credentials(graph, address)))[check]
    assert found.verdict == verdict
    assert found.remedy is not None


@pytest.mark.parametrize("name", ["WHATSAPP_APP_SECRET", "WHATSAPP_VERIFY_TOKEN"])
async def test_a_secret_that_is_not_set_is_named(name: str) -> None:
    async with meta(200, AVAILABLE) as graph, door() as address:
        environ = credentials(graph, address)
        del environ[name]
        found = await examined(**environ)
    assert [
        each.said.split(" ")[0]
        for each in found.values()
        if each.verdict is Verdict.PROBLEM and name in each.said
    ] == [name]


async def test_the_public_address_is_tried_when_it_is_given() -> None:
    async with meta(200, AVAILABLE) as graph, door() as address:
        environ = credentials(graph, "http://127.0.0.1:1")
        there = await examined(f"{address}/webhooks/whatsapp", **environ)
        away = await examined("http://127.0.0.1:1", **environ)
    assert there["signature"].verdict == "ok"
    assert (away["port"].verdict, away["webhook"].verdict) == ("problem", "skipped")


async def test_a_port_is_free_taken_or_no_port_of_this_machine() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = str(taken.getsockname()[1])
        bound = await examined(WAEMITTER_HTTP__PORT=port)
    free = await examined(WAEMITTER_HTTP__PORT=port)
    foreign = await examined(WAEMITTER_HTTP__PORT=port, WAEMITTER_HTTP__HOST="192.0.2.1")
    assert [found["port"].verdict for found in (bound, free, foreign)] == [
        "problem",
        "ok",
        "problem",
    ]
