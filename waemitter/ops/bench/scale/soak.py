"""A long time of steady work, statuses and customers included: memory and bloat come to an end."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final

from waemitter.db.pool import open_pool
from waemitter.ops.bench.bars import MEGABYTE
from waemitter.ops.bench.daemons import Daemon
from waemitter.ops.bench.scale.store import ScaleStore, Sizes
from waemitter.ops.bench.scale.work import Phase, work
from waemitter.ops.bench.site import UNLIMITED, Site

LOOKS: Final = 20  # over the whole time


@dataclass(frozen=True, slots=True)
class Soaked:
    """`resident_mb` of the daemon and `sizes` of the outbox, taken at equal distances; `doubled`, `lost`: by the ledger."""

    seconds: float
    phase: Phase
    resident_mb: list[float]
    sizes: list[Sizes]
    lost: int
    doubled: int


async def soak(on: Site, *, rate: float, seconds: float) -> Soaked:
    """Send `rate` messages a second through the whole simulator, which reports each one's fate."""
    await on.store.clear()
    async with (
        open_pool(on.stage.dsn, size=1) as pool,
        on.simulator(latency=0.05) as cloud,
        on.daemon(cloud.graph_url, messages_per_second=UNLIMITED) as daemon,
    ):
        await cloud.announce(daemon.address)
        store = ScaleStore(pool)
        resident: list[float] = []
        sizes: list[Sizes] = []
        looking = asyncio.create_task(_look(daemon, store, seconds / LOOKS, resident, sizes))
        try:
            phase = await work(on, cloud, first=1, rate=rate, seconds=seconds)
            await on.settled()
        finally:
            looking.cancel()
            await asyncio.gather(looking, return_exceptions=True)
        arrived = await cloud.report()
    return Soaked(
        seconds,
        phase,
        resident,
        sizes,
        phase.messages - arrived.distinct,
        arrived.posts - arrived.distinct,
    )


async def _look(
    daemon: Daemon, store: ScaleStore, every: float, resident: list[float], sizes: list[Sizes]
) -> None:
    while True:
        await asyncio.sleep(every)
        size = await store.sizes()  # whoever ends this meanwhile leaves both lists equally long
        sizes.append(size)
        resident.append(round(daemon.meter.resident() / MEGABYTE, 1))
