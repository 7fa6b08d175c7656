"""A service that answers each turn at once, in a process of its own: `python -m waemitter.ops.bench.bursts.service`.

It says which turn it answered, and counts: every request, every turn, every customer.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from collections import Counter
from typing import Final

import orjson
from aiohttp import web


class Service:
    def __init__(self) -> None:
        self.requests = 0
        self.turns: Final[set[int]] = set()
        self.customers: Final = Counter[str]()
        self.sizes: Final = Counter[int]()

    async def answer(self, request: web.Request) -> web.Response:
        turn = orjson.loads(await request.read())
        self.requests += 1
        if turn["turn_id"] not in self.turns:
            self.turns.add(turn["turn_id"])
            self.customers[turn["contact"]["wa_id"]] += 1
            self.sizes[len(turn["messages"])] += 1
        reply = {"type": "text", "text": {"body": f"Turn {turn['turn_id']}"}}
        return web.Response(
            body=orjson.dumps({"messages": [reply]}), content_type="application/json"
        )

    async def report(self, _: web.Request) -> web.Response:
        return web.json_response(
            {
                "requests": self.requests,
                "turns": len(self.turns),
                "customers": len(self.customers),
                "sizes": self.sizes,
            }
        )


async def main() -> None:
    service, stop = Service(), asyncio.Event()
    app = web.Application()
    app.router.add_post("/turns", service.answer)
    app.router.add_get("/report", service.report)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    address = f"http://127.0.0.1:{runner.addresses[0][1]}"
    sys.stdout.write(orjson.dumps({"event": "SERVICE_STARTED", "address": address}).decode() + "\n")
    sys.stdout.flush()
    await stop.wait()
    await runner.cleanup()


if __name__ == "__main__":
    asyncio.run(main())
