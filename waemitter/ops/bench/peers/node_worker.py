"""A peer on Node: the same table and the same jobs as the others, and its worker a process of Node's."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final
from urllib.parse import quote

import orjson

from waemitter.ops.bench.cloud import BenchFailed
from waemitter.ops.bench.peers import nodejs
from waemitter.ops.bench.peers.store import SETTINGS, PeerStore, open_peer_pool
from waemitter.ops.bench.peers.work import Given
from waemitter.ops.bench.pipeline import HEADERS, NUMBER_ID

READY_WITHIN: Final = 120.0  # seconds: all jobs are in the queue
LAST_WORDS: Final = 15  # lines


class NodeWorker:
    """A running worker, told what to do by its argument, and when to begin by a line."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._said: list[str] = []

    async def event(self, name: str) -> dict[str, Any]:
        """Raises BenchFailed with its last words when it ends before."""
        assert self._process.stdout is not None  # noqa: S101 it was opened as a pipe
        async for line in self._process.stdout:
            self._said.append(line.decode(errors="replace").rstrip())
            with contextlib.suppress(orjson.JSONDecodeError):
                if (found := orjson.loads(line)).get("event") == name:
                    return dict(found)
        words = "\n".join(self._said[-LAST_WORDS:])
        raise BenchFailed(f"the worker on Node ended before {name}:\n{words}")

    def begin(self) -> None:
        assert self._process.stdin is not None  # noqa: S101 it was opened as a pipe
        self._process.stdin.write(b"begin\n")


@asynccontextmanager
async def node_worker(script: str, given: Given) -> AsyncIterator[NodeWorker]:
    """Run it; whatever happens, it has ended afterwards. Raises NoNode."""
    folder = nodejs.folder()
    options = " ".join(f"-c {name}={value}" for name, value in SETTINGS.items())
    told = {
        "dsn": f"{given.dsn}{'&' if '?' in given.dsn else '?'}options={quote(options)}",
        "url": f"{given.url}/{NUMBER_ID}/messages",
        "headers": HEADERS,
        "connections": given.connections,
        "messages": given.messages,
        "statements": {"all": PeerStore.ALL, "sent": PeerStore.SENT},
    }
    process = await asyncio.create_subprocess_exec(
        *nodejs.find().node,
        str(folder / script),
        orjson.dumps(told).decode(),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        yield NodeWorker(process)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def drain(script: str, given: Given) -> dict[str, float]:
    """Seconds and CPU, from the start of the worker to the last stored wamid."""
    async with open_peer_pool(given.dsn, size=1) as pool:
        store = PeerStore(pool)
        await store.fill(given.messages)
        async with node_worker(script, given) as worker:
            async with asyncio.timeout(READY_WITHIN):
                await worker.event("PEER_READY")
            await store.settle_in()
            worker.begin()
            drained = await worker.event("PEER_DRAINED")
        if missing := await store.without_wamid():
            raise BenchFailed(f"{missing} messages have no wamid")
    return {"seconds": drained["seconds"], "cpu": drained["cpu"]}
