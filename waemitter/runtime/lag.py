"""How late the event loop is: what every latency in this process has in common."""

import asyncio
from typing import Final, Protocol

from waemitter.runtime.supervise import Stop

EVERY: Final = 5.0  # seconds


class Observer(Protocol):
    def loop_lag_measured(self, *, lag: float) -> None: ...


async def watch_lag(stop: Stop, observer: Observer) -> None:
    loop = asyncio.get_running_loop()
    while True:
        expected = loop.time() + EVERY
        if await stop.sleep(EVERY):
            return
        observer.loop_lag_measured(lag=max(0.0, loop.time() - expected))
