"""What every peer is given to do, and how its worker is run and measured."""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import aiohttp
import orjson
from yarl import URL

from waemitter.ops.bench.cloud import BenchFailed
from waemitter.ops.bench.peers.store import PeerStore, Pool, open_peer_pool
from waemitter.ops.bench.pipeline import HEADERS, NUMBER_ID
from waemitter.ops.bench.sink import fastest_loop
from waemitter.whatsapp.client import open_session

FLUSH_AT: Final = 200  # wamids stored by one statement, where they are stored together


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """`connections`: to the sink, at the most; `together`: wamids are stored by the hundred, as an expert would."""

    dsn: str
    url: str
    messages: int
    connections: int
    together: bool


class Work:
    """What a job does: POST its body, store the wamid. A call returns when that is committed."""

    def __init__(
        self, store: PeerStore, session: aiohttp.ClientSession, url: URL, *, given: Given
    ) -> None:
        self._store = store
        self._session = session
        self._url = url
        self._together = given.together
        self._left = given.messages
        self._waiting: list[tuple[int, str, asyncio.Future[None]]] = []
        self._flushing: asyncio.Task[None] | None = None
        self._ended: Final = asyncio.Event()
        self._began = self._cpu = 0.0
        self.told: dict[str, float] = {}

    async def begin(self) -> None:
        """From here on it counts: all jobs are in the queue, and the server is at rest."""
        await self._store.settle_in()
        self._began, self._cpu = time.perf_counter(), time.process_time()

    async def __call__(self, row: int, body: str) -> None:
        async with self._session.post(self._url, data=body.encode(), headers=HEADERS) as response:
            wamid: str = orjson.loads(await response.read())["messages"][0]["id"]
        if not self._together:
            await self._store.sent(row, wamid)
            self._done(1)
            return
        stored: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((row, wamid, stored))
        if self._flushing is None:
            self._flushing = asyncio.create_task(self._flush())
        await stored

    async def _flush(self) -> None:
        while self._waiting:
            some, self._waiting = self._waiting[:FLUSH_AT], self._waiting[FLUSH_AT:]
            rows, wamids, stored = zip(*some, strict=True)
            await self._store.sent_together(rows, wamids)
            for future in stored:
                future.set_result(None)
            self._done(len(some))
        self._flushing = None

    def _done(self, messages: int) -> None:
        self._left -= messages
        if self._left <= 0:
            self.told = {
                "seconds": time.perf_counter() - self._began,
                "cpu": time.process_time() - self._cpu,
            }
            self._ended.set()

    async def ended(self) -> None:
        """Until the last wamid is stored; what a peer writes afterwards for itself is not counted."""
        await self._ended.wait()


Jobs = Sequence[tuple[int, str]]
"""Rows of the application's table, and their bodies."""


@asynccontextmanager
async def working(given: Given, *, pool_size: int) -> AsyncIterator[tuple[Pool, Work, Jobs]]:
    """A filled table, a session to the sink, and a pool for the peer and the table. Raises BenchFailed for what was lost."""
    async with (
        open_peer_pool(given.dsn, size=pool_size) as pool,
        open_session(connections=given.connections) as session,
    ):
        store = PeerStore(pool)
        jobs = await store.fill(given.messages)
        work = Work(store, session, URL(f"{given.url}/{NUMBER_ID}/messages"), given=given)
        yield pool, work, jobs
        if missing := await store.without_wamid():
            raise BenchFailed(f"{missing} messages have no wamid")


def main(drain: Callable[[Given], Awaitable[dict[str, float]]]) -> None:
    """Run a peer's worker as the bench asks for it, and tell seconds and CPU on one line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--dsn", required=True)
    parser.add_argument("--url", required=True, help="the Graph API, with its version")
    parser.add_argument("--messages", type=int, required=True)
    parser.add_argument("--connections", type=int, required=True)
    parser.add_argument("--together", action="store_true")
    given = Given(**vars(parser.parse_args()))

    async def run() -> dict[str, float]:
        return await drain(given)

    with asyncio.Runner(loop_factory=fastest_loop()) as runner:
        told = runner.run(run())
    sys.stdout.buffer.write(orjson.dumps({"event": "PEER_DRAINED", **told}) + b"\n")
