"""The bare pipeline: what an aiohttp session and the same Postgres do when nothing else is asked of them.

Rows are claimed and settled by the hundred with plain SQL, and sent by an aiohttp session, as its manual shows. There is no
lease, no token, no limit, no lane, no retry, no log, no metric and no bell: a crash loses what is in flight. It is no product; it
is the measure beside which the daemon's rate on the same machine, in the same run, says something.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections import deque
from typing import Final

import aiohttp
import orjson
from yarl import URL

from waemitter.db.pool import open_pool
from waemitter.ops.bench.sink import fastest_loop
from waemitter.ops.bench.store import PipelineStore
from waemitter.whatsapp.client import open_session

BATCH: Final = 500  # rows of a claim, and of a settle
NUMBER_ID: Final = "111000111"
HEADERS: Final = {"Authorization": "Bearer simulated", "Content-Type": "application/json"}


class Pipeline:
    def __init__(
        self, store: PipelineStore, session: aiohttp.ClientSession, url: URL, *, connections: int
    ) -> None:
        self._store = store
        self._session = session
        self._url = url
        self._connections = connections
        self._rows: Final[deque[tuple[int, str]]] = deque()
        self._sent: list[tuple[int, str]] = []
        self._few: Final = asyncio.Event()
        self._some: Final = asyncio.Event()
        self._many: Final = asyncio.Event()
        self._claimed_all = self._sent_all = False

    async def run(self) -> None:
        """Drain the table."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._claim())
            group.create_task(self._settle())
            async with asyncio.TaskGroup() as senders:
                for _ in range(self._connections):
                    senders.create_task(self._send())
            self._sent_all = True
            self._many.set()

    async def _claim(self) -> None:
        most = max(2 * BATCH, 2 * self._connections)
        while rows := await self._store.claim(BATCH):
            self._rows.extend(rows)
            self._some.set()
            self._few.clear()
            if len(self._rows) > most - BATCH:
                await self._few.wait()
        self._claimed_all = True
        self._some.set()

    async def _send(self) -> None:
        while True:
            while not self._rows:
                if self._claimed_all:
                    return
                self._some.clear()
                await self._some.wait()
            row, body = self._rows.popleft()
            if len(self._rows) < BATCH:
                self._few.set()
            async with self._session.post(
                self._url, data=body.encode(), headers=HEADERS
            ) as response:
                answer = orjson.loads(await response.read())
            self._sent.append((row, answer["messages"][0]["id"]))
            if len(self._sent) >= BATCH:
                self._many.set()

    async def _settle(self) -> None:
        while not (self._sent_all and not self._sent):
            if not self._sent_all:
                await self._many.wait()
                self._many.clear()
            sent, self._sent = self._sent, []
            if sent:
                await self._store.settle([row for row, _ in sent], [wamid for _, wamid in sent])


async def _run(dsn: str, url: str, *, messages: int, connections: int) -> dict[str, float]:
    async with (
        open_pool(dsn, size=3, application_name="bare pipeline") as pool,
        open_session(connections=connections) as session,
    ):
        store = PipelineStore(pool)
        await store.fill(messages)
        messages_url = URL(f"{url}/{NUMBER_ID}/messages")
        began, cpu = time.perf_counter(), time.process_time()
        await Pipeline(store, session, messages_url, connections=connections).run()
        return {
            "messages": messages,
            "seconds": time.perf_counter() - began,
            "cpu": time.process_time() - cpu,
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--dsn", required=True)
    parser.add_argument("--url", required=True, help="the Graph API, with its version")
    parser.add_argument("--messages", type=int, required=True)
    parser.add_argument("--connections", type=int, required=True)
    given = parser.parse_args()
    with asyncio.Runner(loop_factory=fastest_loop()) as runner:
        drained = runner.run(
            _run(given.dsn, given.url, messages=given.messages, connections=given.connections)
        )
    sys.stdout.buffer.write(orjson.dumps({"event": "PIPELINE_DRAINED", **drained}) + b"\n")


if __name__ == "__main__":
    main()
