"""A transaction that stays open under load: the daemon goes on, says so, and all is well again afterwards."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from waemitter.db.pool import open_pool
from waemitter.ops.bench.scale.store import ScaleStore, Sizes
from waemitter.ops.bench.scale.work import Phase, work
from waemitter.ops.bench.site import UNLIMITED, Site

SHARE: Final = 0.2  # of the time, before and again afterwards


@dataclass(frozen=True, slots=True)
class Held:
    """Before, while it was open, and after a vacuum; `warnings`: how often the daemon said so."""

    seconds: float
    before: Phase
    held: Phase
    after: Phase
    at_first: Sizes
    at_last: Sizes
    vacuumed: Sizes
    warnings: int
    released: bool


async def snapshot(on: Site, *, rate: float, seconds: float) -> Held:
    """Send `rate` messages a second, with a transaction open for `seconds` of the time."""
    await on.store.clear()
    async with (
        open_pool(on.stage.dsn, size=2, statement_timeout=0) as pool,
        on.sink(latency=0.1) as cloud,
        on.daemon(cloud.graph_url, messages_per_second=UNLIMITED) as daemon,
    ):
        store = ScaleStore(pool)
        before = await work(on, cloud, first=1, rate=rate, seconds=seconds * SHARE)
        at_first = await store.sizes()
        async with store.snapshot():
            first = before.messages + 1
            held = await work(on, cloud, first=first, rate=rate, seconds=seconds)
            await on.settled()
            at_last = await store.sizes()
        await store.vacuum()
        vacuumed = await store.sizes()
        first += held.messages
        after = await work(on, cloud, first=first, rate=rate, seconds=seconds * SHARE)
        await on.settled()
        said = daemon.said()
    return Held(
        seconds,
        before,
        held,
        after,
        at_first,
        at_last,
        vacuumed,
        said.count("SNAPSHOT_HELD"),
        "SNAPSHOT_RELEASED" in said,
    )
