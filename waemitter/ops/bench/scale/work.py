"""A steady rate of messages, and how long each one took: the load under which the long programs look."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Final

from waemitter.ops.bench.cloud import Cloud
from waemitter.ops.bench.samples import percentile
from waemitter.ops.bench.site import Site, patience
from waemitter.ops.bench.store import recipient

BEAT: Final = 0.02  # seconds between two inserts


@dataclass(frozen=True, slots=True)
class Phase:
    """Messages a second that arrived, and milliseconds from each commit to its arrival."""

    messages: int
    rate: float
    p50_ms: float
    p99_ms: float


async def work(on: Site, cloud: Cloud, *, first: int, rate: float, seconds: float) -> Phase:
    """Commit so many a second, from number `first` on, for so long; until the last has arrived."""
    committed: dict[str, float] = {}
    began, inserted = time.perf_counter(), first - 1
    while (elapsed := time.perf_counter() - began) < seconds:
        wanted = first - 1 + int(rate * elapsed)
        if wanted > inserted:
            await on.store.enqueue(inserted + 1, wanted)
            now = time.time()
            committed |= {recipient(n): now for n in range(inserted + 1, wanted + 1)}
            inserted = wanted
        await asyncio.sleep(BEAT)
    await cloud.wait(inserted, within=patience(inserted))
    arrivals = await cloud.arrivals()
    took = [max(0.0, arrivals[to] - at) * 1000 for to, at in committed.items()]
    messages = inserted - first + 1
    return Phase(
        messages,
        messages / (time.perf_counter() - began),
        percentile(took, 0.5),
        percentile(took, 0.99),
    )
