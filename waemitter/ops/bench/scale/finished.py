"""Many finished rows: what claims, statuses, retention and the dashboard cost beside them, and beside a hundredth of them."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

from waemitter.db.pool import open_pool
from waemitter.ops.bench.samples import percentile
from waemitter.ops.bench.scale.store import ScaleStore
from waemitter.ops.bench.site import Site
from waemitter.outbox.store import OutboxStore
from waemitter.web.dashboard.store import DashboardStore, Filter

TIMES: Final = 50
ROWS: Final = 100  # in one claim, one settle, one webhook
QUEUED: Final = 1000


@dataclass(frozen=True, slots=True)
class Costs:
    """Medians in milliseconds, beside so many `finished` rows.

    Of a claim of a hundred, its settle, a hundred statuses, a batch of the retention (1,000 rows), the counts of the gauges, and
    what the dashboard's overview and a page of its outbox ask.
    """

    finished: int
    claim: float
    settle: float
    statuses: float
    retention: float
    gauges: float
    overview: float
    page: float


@dataclass(frozen=True, slots=True)
class Compared:
    few: Costs
    many: Costs


async def finished(on: Site, rows: int) -> Compared:
    """Measure beside a hundredth of the rows, and then beside all."""
    await on.store.clear()
    await on.store.set_limit(0)
    few = await _measure(on, 0, rows // 100)
    many = await _measure(on, rows // 100, rows)
    await on.store.clear()
    return Compared(few, many)


async def _measure(on: Site, there: int, rows: int) -> Costs:
    await on.store.history(rows - there, start=there)
    await on.store.backlog(QUEUED)
    async with open_pool(on.stage.dsn, size=2, statement_timeout=0) as pool:
        store, outbox, dashboard = ScaleStore(pool), OutboxStore(pool), DashboardStore(pool)
        await store.settle_in()
        claims: list[float] = []
        settles: list[float] = []
        statuses: list[float] = []
        for _ in range(TIMES):
            began = time.perf_counter()
            claimed = await on.store.claim(ROWS)
            claims.append(time.perf_counter() - began)
            settles.append(await _took(partial(on.store.settle, claimed)))
            statuses.append(await _took(partial(store.delivered, claimed)))
            await on.store.backlog(ROWS)

        async def overview() -> None:
            await dashboard.channels()
            await dashboard.errors()
            await dashboard.sizes()

        blank = Filter(*[None] * len(Filter._fields))
        return Costs(
            rows,
            _median(claims),
            _median(settles),
            _median(statuses),
            _median([await _took(store.purge) for _ in range(10)]),
            _median([await _took(outbox.depth) for _ in range(10)]),
            _median([await _took(overview) for _ in range(10)]),
            _median([await _took(lambda: dashboard.messages(blank, limit=50)) for _ in range(10)]),
        )


async def _took(call: Callable[[], Awaitable[object]]) -> float:
    began = time.perf_counter()
    await call()
    return time.perf_counter() - began


def _median(seconds: list[float]) -> float:
    return percentile(seconds, 0.5) * 1000
