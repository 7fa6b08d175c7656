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

    `lane`: of the claims that are made until one long lane at the head is parked, and all others have left; `cap`: the same with
    a capped campaign's messages at the head, which get their dates.
    """

    few_p99_ms: float
    many_p99_ms: float
    lane_p50_ms: float
    lane_p95_ms: float
    lane_most_ms: float
    cap_p95_ms: float


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
    at_lane = await _past_the_head(site, FEW + 1)
    await store.clear()
    await store.capped_campaign(lane)
    await store.backlog(FEW)
    at_cap = await _past_the_head(site, FEW)
    await store.clear()
    await store.clear_campaigns()
    return Claimed(
        few_p99_ms=percentile(few, 0.99),
        many_p99_ms=percentile(many, 0.99),
        lane_p50_ms=percentile(at_lane, 0.5),
        lane_p95_ms=percentile(at_lane, 0.95),
        lane_most_ms=max(at_lane),
        cap_p95_ms=percentile(at_cap, 0.95),
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


async def _past_the_head(site: Site, rows: int) -> list[float]:
    """Claim until so many rows have been had: those behind the head, and the first of a lane."""
    took: list[float] = []
    had = 0
    while had < rows:
        began = time.perf_counter()
        had += len(await site.store.claim(ROWS))
        took.append((time.perf_counter() - began) * 1000)
    return took
