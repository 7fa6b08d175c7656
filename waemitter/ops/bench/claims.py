"""What a claim costs: with few rows and with many, and where one recipient's messages stand in front of all others."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Final

from waemitter.ops.bench.samples import percentile
from waemitter.ops.bench.site import Site

FEW: Final = 1000
ROWS: Final = 100  # in one claim
WARM_UP: Final = 20  # claims
CLAIMS: Final = 150


@dataclass(frozen=True, slots=True)
class Claimed:
    """Milliseconds of a claim of a hundred rows; `many` rows, half of them sent long ago. The settles are not in it.

    `lane`: of the claims that are made until one long lane at the head is parked, and all others have left.
    """

    few_p99_ms: float
    many_p99_ms: float
    lane_p50_ms: float
    lane_most_ms: float


async def claims(site: Site, *, rows: int, lane: int) -> Claimed:
    store = site.store
    await store.clear()
    await store.set_limit(0)
    await store.backlog(FEW)
    few = await _measure(site)
    await store.clear()
    await store.history(rows // 2)
    await store.backlog(rows - rows // 2)
    many = await _measure(site)
    await store.clear()
    await store.one_lane(lane)
    await store.backlog(FEW)
    at_lane = await _past_the_lane(site)
    await store.clear()
    return Claimed(
        percentile(few, 0.99), percentile(many, 0.99), percentile(at_lane, 0.5), max(at_lane)
    )


async def _measure(site: Site) -> list[float]:
    took = []
    for n in range(WARM_UP + CLAIMS):
        began = time.perf_counter()
        claimed = await site.store.claim(ROWS)
        if n >= WARM_UP:
            took.append((time.perf_counter() - began) * 1000)
        await site.store.settle(claimed)
        await site.store.backlog(ROWS)
    return took


async def _past_the_lane(site: Site) -> list[float]:
    """Claim until the rows behind the lane have been had, and the lane's first."""
    took, had = [], 0
    while had < FEW + 1:
        began = time.perf_counter()
        had += len(await site.store.claim(ROWS))
        took.append((time.perf_counter() - began) * 1000)
    return took
