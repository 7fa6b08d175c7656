"""A stage that answers questions: what the rows say, what Meta saw, what was logged, what a command did."""

from __future__ import annotations

import asyncio
import io
import os
import signal
import socket
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

import aiohttp
import asyncpg
import orjson
from typing_extensions import override

from tests.support import eventually
from waemitter.ops.processes import Child
from waemitter.ops.stage import Stage

T = TypeVar("T")

QUICK: Final = {
    "WAEMITTER_OUTBOX__LEASE": "3s",
    "WAEMITTER_OUTBOX__REQUEST_TIMEOUT": "1s",
    "WAEMITTER_OUTBOX__RETRY_DELAYS": "0.2,0.4",
    "WAEMITTER_OUTBOX__UNCONFIRMED_GRACE": "3s",
}
"""What takes minutes in production takes seconds here. The sweep stays slow: nothing may need it."""

UNLIMITED: Final = {"WAEMITTER_CHANNEL__MESSAGES_PER_SECOND": "0"}
NO_LIMITS: Final = ("--messages-per-second", "0", "--pair-seconds", "0")

PROMPT: Final = (
    *("--sent-delay", "0.01", "0.02"),
    *("--delivered-delay", "0.01", "0.02"),
    *("--read-delay", "0.01", "0.02"),
    *("--webhook-retry-initial", "0.1"),
    *("--webhook-retry-max", "0.3"),
)
"""A Meta whose statuses come quickly, and soon again when they were not taken."""

ENQUEUE: Final = """
    insert into waemitter.outbox_messages (recipient, message_type, payload, ordering_key)
    select '+1415' || (5550000 + n), 'text',
           jsonb_build_object('text', jsonb_build_object('body', format('Order %s is on its way', n))), ''
    from generate_series(1, $1::integer) n
"""


@dataclass(frozen=True, slots=True)
class Ended:
    """A command that has ended."""

    code: int
    out: str
    err: str

    @property
    def complaints(self) -> list[str]:
        """What stderr says to a person: all but the JSON lines of a log."""
        return [line for line in self.err.splitlines() if line and not line.startswith("{")]

    def json(self) -> Any:
        return orjson.loads(self.out)


async def until(condition: Callable[[], Awaitable[T | None]], *, within: float = 15) -> T:
    """`eventually`, for what has to be asked for, and not too often."""
    either: Callable[[], Awaitable[T | None] | T | None] = condition
    found = await eventually(either, within=within, every=0.05)
    assert found is not None
    return found


async def command(
    *arguments: str, environ: Mapping[str, str] | None = None, within: float = 40
) -> Ended:
    """Run `waemitter …` to its end, with no settings but those of `environ`."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "waemitter",
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=without_settings() | dict(environ or {}),
    )
    try:
        async with asyncio.timeout(within):
            out, err = await process.communicate()
    except BaseException:
        process.kill()
        raise
    assert process.returncode is not None
    return Ended(process.returncode, out.decode(), err.decode())


def without_settings() -> dict[str, str]:
    ours = ("WAEMITTER_", "WHATSAPP_", "DATABASE_URL", "PG")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)}


class Scene(Stage):
    """`close` sees to it that every daemon which still runs ends well, and had nothing to be ashamed of."""

    def __init__(self, stack: AsyncExitStack, dsn: str) -> None:
        super().__init__(stack, dsn)
        self.daemons: list[Child] = []

    @override
    async def daemon(
        self, environ: Mapping[str, str] | None = None, arguments: Sequence[str] = ()
    ) -> tuple[Child, str]:
        running, address = await super().daemon(QUICK | dict(environ or {}), arguments)
        self.daemons.append(running)
        return running, address

    async def play(
        self, *flags: str, environ: Mapping[str, str] | None = None
    ) -> tuple[Child, str]:
        """A simulator, and a daemon that hears its webhooks."""
        port = free_port()
        self.graph_url = f"http://127.0.0.1:{port}/v24.0"
        _, (running, address) = await asyncio.gather(  # a start is a second of imports
            self.simulate(*PROMPT, "--port", str(port), *flags), self.daemon(environ)
        )
        await self.announce(address)
        return running, address

    async def close(self) -> None:
        running = [each for each in self.daemons if each.process.returncode is None]
        codes = await asyncio.gather(*(each.stop() for each in running))
        if self.simulator is not None:
            await kill(self.simulator)
        found = [line for each in self.daemons for line in disgraces(each)]
        assert not found, found
        assert not any(codes), codes

    async def fetch(self, statement: str, *arguments: Any) -> list[asyncpg.Record]:
        """By a connection of its own: the server may have been restarted since the last one."""
        connection = await asyncpg.connect(self.dsn)
        try:
            return await connection.fetch(statement, *arguments)
        finally:
            await connection.close()

    async def value(self, statement: str, *arguments: Any) -> Any:
        return (await self.fetch(statement, *arguments))[0][0]

    async def enqueue(self, count: int) -> None:
        """Texts to as many customers, without an order among them."""
        await self.fetch(ENQUEUE, count)

    async def send(self, recipient: str, body: str = "Hello", **columns: Any) -> int:
        """One text by the SQL function; `columns` are its further arguments."""
        names = "".join(f", {name} => ${n}" for n, name in enumerate(columns, 3))
        statement = f"select waemitter.send_text($1, $2{names})"
        message_id: int = await self.value(statement, recipient, body, *columns.values())
        return message_id

    async def row(self, message_id: int) -> asyncpg.Record:
        [row] = await self.fetch(
            "select * from waemitter.outbox_messages where id = $1", message_id
        )
        return row

    async def reaches(self, message_id: int, *statuses: str, within: float = 15) -> asyncpg.Record:
        """The row, once it has one of the statuses."""

        async def reached() -> asyncpg.Record:
            row = await self.row(message_id)
            assert row["status"] in statuses, f"{row['status']}: {row['error_message']}"
            return row

        return await until(reached, within=within)

    async def statuses(self) -> Counter[str]:
        rows = await self.fetch("select status, count(*) from waemitter.outbox_messages group by 1")
        return Counter({row["status"]: row["count"] for row in rows})

    async def all_reach(self, *statuses: str, within: float = 30) -> Counter[str]:
        """What all rows are, once each is one of the statuses."""

        async def reached() -> Counter[str]:
            found = await self.statuses()
            assert found
            assert found.keys() <= set(statuses), found
            return found

        return await until(reached, within=within)

    async def report(self) -> dict[str, Any]:
        """What the simulator saw."""
        report: dict[str, Any] = await self.control("GET", "report")
        return report

    async def accepts(self, count: int, *, within: float = 15) -> None:
        """Return when the simulator has accepted so many."""

        async def accepted() -> bool:
            return bool((await self.report())["accepted"] >= count)

        await until(accepted, within=within)

    async def accepted(self) -> list[dict[str, Any]]:
        """The ledger, in the order of acceptance."""
        page = await self.control("GET", "messages?limit=10000")
        messages: list[dict[str, Any]] = page["messages"]
        return messages

    async def options(self, **changes: Any) -> None:
        await self.control("PATCH", "options", changes)

    async def command(self, *arguments: str, environ: Mapping[str, str] | None = None) -> Ended:
        return await command(*arguments, environ=self.environment() | QUICK | dict(environ or {}))

    @property
    def simulator_port(self) -> int:
        port = urlsplit(self.graph_url).port
        assert port is not None
        return port


def free_port() -> int:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        port: int = bound.getsockname()[1]
    return port


async def get(url: str) -> tuple[int, str]:
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        return answer.status, await answer.text()


async def metric(address: str, series: str) -> float:
    """One number of a daemon's /metrics, by its name and labels as they are written there."""
    _, text = await get(f"{address}/metrics")
    [value] = [
        line.rpartition(" ")[2] for line in text.splitlines() if line.startswith(f"{series} ")
    ]
    return float(value)


async def post(url: str, body: bytes, **headers: str) -> int:
    """`headers` by their names with _ for -."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    async with (
        aiohttp.ClientSession() as session,
        session.post(
            url, data=io.BytesIO(body), headers={"Content-Type": "application/json"} | named
        ) as answer,
    ):
        return answer.status


async def kill(running: Child) -> None:
    running.signal(signal.SIGKILL)
    await running.process.wait()


def events(running: Child, name: str) -> list[dict[str, Any]]:
    return [line for line in running.events if line.get("event") == name]


def disgraces(running: Child) -> list[str]:
    """Lines that no run of a daemon should have: those that are no JSON, crashes, errors a library saw."""
    broken = [line for line in running.lines if not line.startswith("{")]
    return broken + [
        str(line)
        for line in running.events
        if line["event"] in {"DAEMON_CRASHED", "HTTP_REQUEST_FAILED"}
        or (line["event"] == "LIBRARY_LOGGED" and line["level"] in {"error", "critical"})
    ]
