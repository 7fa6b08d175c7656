"""What a daemon costs at a steady rate, as a number of Meta's largest size would have it."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Final

from waemitter.ops.bench.cloud import Cloud
from waemitter.ops.bench.daemons import Daemon
from waemitter.ops.bench.site import Site, patience

BEAT: Final = 0.02  # seconds between two inserts
WARM_UP: Final = 2.0  # seconds before anything counts


@dataclass(frozen=True, slots=True)
class Steady:
    """`rate`: arrivals a second; `cpu`: the daemon's share of one core; memory in bytes."""

    rate: float
    cpu: float
    resident: int


async def steady(
    site: Site, cloud: Cloud, daemon: Daemon, *, rate: float, seconds: float
) -> Steady:
    """Commit so many messages a second, for so long, in small transactions on a steady beat."""
    await site.store.clear()
    await cloud.reset()
    inserted = await _insert(site, 0, rate, WARM_UP)
    before, cpu, began = (await cloud.report()).posts, daemon.meter.cpu(), time.perf_counter()
    inserted = await _insert(site, inserted, rate, seconds)
    took, cpu = time.perf_counter() - began, daemon.meter.cpu() - cpu
    arrived = (await cloud.report()).posts - before
    await cloud.wait(inserted, within=patience(inserted))
    await site.settled()
    return Steady(arrived / took, cpu / took, daemon.meter.resident())


async def _insert(site: Site, inserted: int, rate: float, seconds: float) -> int:
    began, first = time.perf_counter(), inserted
    while (elapsed := time.perf_counter() - began) < seconds:
        wanted = first + int(rate * elapsed)
        if wanted > inserted:
            await site.store.enqueue(inserted + 1, wanted)
            inserted = wanted
        await asyncio.sleep(BEAT)
    return inserted
