"""The bare handler: aiohttp, the HMAC, the parse, and one INSERT each; or one for all that came meanwhile (`--together`).

No log, no metric, no time-outs of its own, no limits, and nothing works off what is stored. It is the measure beside which the
daemon's rate on the same machine, in the same run, says something.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import hmac
import sys
from collections.abc import Awaitable, Callable
from typing import Final

import orjson
from aiohttp import web

from waemitter.db.pool import open_pool
from waemitter.ops.bench.sink import fastest_loop
from waemitter.ops.bench.webhooks.store import BareStore

POOL: Final = 8  # connections, as the daemon has


class Together:
    """Group commit in a dozen lines."""

    def __init__(self, store: BareStore) -> None:
        self._store = store
        self._waiting: list[tuple[bytes, asyncio.Future[None]]] = []
        self._some: Final = asyncio.Event()

    async def insert(self, body: bytes) -> None:
        done = asyncio.get_running_loop().create_future()
        self._waiting.append((body, done))
        self._some.set()
        await done

    async def run(self) -> None:
        while True:
            await self._some.wait()
            self._some.clear()
            batch, self._waiting = self._waiting, []
            await self._store.insert_many([body for body, _ in batch])
            for _, done in batch:
                done.set_result(None)


async def _run(dsn: str, secret: str, *, together: bool) -> None:
    async with open_pool(dsn, size=POOL, application_name="bare handler") as pool:
        store = BareStore(pool)
        await store.create()
        group = Together(store)
        insert = group.insert if together else store.insert
        app = web.Application()
        app.router.add_post("/webhooks/whatsapp", _handler(secret.encode(), insert))
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        line = {"event": "BARE_STARTED", "address": f"http://127.0.0.1:{runner.addresses[0][1]}"}
        sys.stdout.buffer.write(orjson.dumps(line) + b"\n")
        sys.stdout.buffer.flush()
        await group.run()


def _handler(
    secret: bytes, insert: Callable[[bytes], Awaitable[None]]
) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def handle(request: web.Request) -> web.Response:
        body = await request.read()
        genuine = "sha256=" + hmac.new(secret, body, hashlib.sha256).hexdigest()
        if not hmac.compare_digest(genuine, request.headers["X-Hub-Signature-256"]):
            return web.Response(status=401)
        orjson.loads(body)
        await insert(body)
        return web.Response()

    return handle


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--dsn", required=True)
    parser.add_argument("--secret", required=True)
    parser.add_argument("--together", action="store_true")
    given = parser.parse_args()
    with asyncio.Runner(loop_factory=fastest_loop()) as runner:
        runner.run(_run(given.dsn, given.secret, together=given.together))


if __name__ == "__main__":
    main()
