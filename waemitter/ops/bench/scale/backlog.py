"""A long backlog: whether it drains at the same rate from its first message to its last."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from waemitter.ops.bench.bars import MEGABYTE
from waemitter.ops.bench.daemons import Daemon
from waemitter.ops.bench.samples import spread
from waemitter.ops.bench.site import UNLIMITED, Site, patience

WINDOWS: Final = 20  # of equal numbers of messages
LOOK_EVERY: Final = 0.2  # seconds
FEW: Final = (
    5  # of them are compared: the last ones, and the first but for the one that has the start in it
)


@dataclass(frozen=True, slots=True)
class Drained:
    """Messages a second over the whole, and in each twentieth; `resident_mb`: the daemon's most."""

    rows: int
    seconds: float
    rate: float
    least: float
    median: float
    last_to_first: float
    lost: int
    doubled: int
    resident_mb: float


async def backlog(on: Site, rows: int) -> Drained:
    """Enqueue them, in a transaction, before a daemon is there; then drain them."""
    await on.store.clear()
    await on.store.enqueue(1, rows)
    async with (
        on.sink() as cloud,
        on.daemon(cloud.graph_url, messages_per_second=UNLIMITED) as daemon,
    ):
        most: list[int] = [0]
        looking = asyncio.create_task(_look(daemon, most))
        marks = [time.perf_counter()]
        try:
            for window in range(1, WINDOWS + 1):
                await cloud.wait(rows * window // WINDOWS, within=patience(rows))
                marks.append(time.perf_counter())
        finally:
            looking.cancel()
        await on.settled()
        arrived = await cloud.report()
    rates = [rows / WINDOWS / (later - sooner) for sooner, later in pairwise(marks)]
    return Drained(
        rows=rows,
        seconds=marks[-1] - marks[0],
        rate=rows / (marks[-1] - marks[0]),
        least=min(rates),
        median=spread(rates).median,
        last_to_first=rates[-2]
        / rates[1],  # the first has the daemon's start in it, the last its end
        lost=rows - arrived.distinct,
        doubled=arrived.posts - arrived.distinct,
        resident_mb=most[0] / MEGABYTE,
    )


async def _look(daemon: Daemon, most: list[int]) -> None:
    while True:
        most[0] = max(most[0], daemon.meter.resident())
        await asyncio.sleep(LOOK_EVERY)
