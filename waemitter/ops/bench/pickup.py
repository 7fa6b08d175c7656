"""How long a message lies before an idle daemon has it on the wire."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from waemitter.ops.bench.cloud import Cloud
from waemitter.ops.bench.samples import percentile
from waemitter.ops.bench.site import Site, patience
from waemitter.ops.bench.store import recipient

PAUSE: Final = (
    0.06  # seconds between two messages: the daemon has gone back to sleep, and waits for its bell
)


@dataclass(frozen=True, slots=True)
class PickedUp:
    """Milliseconds until the request's bytes arrived: from the COMMIT's return, and from before the INSERT was sent."""

    messages: int
    p50_ms: float
    p99_ms: float
    from_insert_p50_ms: float
    from_insert_p99_ms: float


async def pickup(site: Site, cloud: Cloud, messages: int) -> PickedUp:
    """Send one after the other through a daemon that is idle each time."""
    await site.store.clear()
    return await one_by_one(cloud, messages, site.store.enqueue_one)


async def one_by_one(
    cloud: Cloud, messages: int, enqueue: Callable[[int], Awaitable[None]]
) -> PickedUp:
    """The same for whoever is idle: `enqueue(n)` commits the message to recipient(n)."""
    await cloud.reset()
    begun: dict[str, float] = {}
    committed: dict[str, float] = {}
    for n in range(1, messages + 1):
        await asyncio.sleep(PAUSE)
        begun[recipient(n)] = time.time()
        await enqueue(n)
        committed[recipient(n)] = time.time()
    await cloud.wait(messages, within=patience(messages))
    arrivals = await cloud.arrivals()
    # It may be on the wire before this process has read that its commit succeeded.
    from_commit = [max(0.0, arrivals[to] - at) * 1000 for to, at in committed.items()]
    from_insert = [(arrivals[to] - at) * 1000 for to, at in begun.items()]
    return PickedUp(
        messages,
        percentile(from_commit, 0.5),
        percentile(from_commit, 0.99),
        percentile(from_insert, 0.5),
        percentile(from_insert, 0.99),
    )
