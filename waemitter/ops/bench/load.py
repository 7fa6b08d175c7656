"""The load generator: so many messages, all at once or at a rate, and how long each one took."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from waemitter.ops.bench.cloud import Cloud
from waemitter.ops.bench.daemons import Daemon
from waemitter.ops.bench.samples import percentile
from waemitter.ops.bench.site import Site, patience, site
from waemitter.ops.bench.store import recipient

INSERTERS: Final = 8  # connections that insert, each on its own beat


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What to offer.

    `rate`: inserts a second, 0 = all in one transaction; `latency` (seconds) of the cloud's answers; `limit`: the channel's
    messages a second, 0 = none; `simulator`: the whole simulator instead of the lean sink.
    """

    messages: int
    rate: float = 0.0
    latency: float = 0.0
    limit: float = 0.0
    simulator: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """What became of a load.

    `rate`: messages a second from the first commit to the last arrival; `peak`: the most in any sliding second; `lost`,
    `doubled`: those that never arrived, or twice; latencies from each commit to its arrival; `cpu_us`: the daemon's, for each.
    """

    messages: int
    seconds: float
    rate: float
    peak: int
    lost: int
    doubled: int
    p50_ms: float
    p99_ms: float
    cpu_us: float


async def serve_load(load: Load) -> Served:
    """Run a load on a site of its own."""
    async with (
        site() as on,
        _cloud(on, load) as cloud,
        on.daemon(cloud.graph_url, messages_per_second=load.limit) as daemon,
    ):
        if announce := getattr(cloud, "announce", None):
            await announce(daemon.address)
        return await _serve(on, cloud, daemon, load)


@asynccontextmanager
async def _cloud(on: Site, load: Load) -> AsyncIterator[Cloud]:
    if load.simulator:
        async with on.simulator(latency=load.latency) as simulator:
            yield simulator
    else:
        async with on.sink(latency=load.latency) as sink:
            yield sink


async def _serve(on: Site, cloud: Cloud, daemon: Daemon, load: Load) -> Served:
    cpu = daemon.meter.cpu()
    committed = await _insert(on, load)
    slowest = min(bound for bound in (load.rate, load.limit, float("inf")) if bound)
    await cloud.wait(load.messages, within=patience(load.messages) + load.messages / slowest)
    await on.settled()
    cpu = daemon.meter.cpu() - cpu
    report, arrivals = await cloud.report(), await cloud.arrivals()
    took = [max(0.0, arrivals[to] - at) * 1000 for to, at in committed.items()]
    seconds = report.last - min(committed.values())
    return Served(
        messages=load.messages,
        seconds=seconds,
        rate=report.posts / seconds,
        peak=report.peak_per_second,
        lost=load.messages - report.distinct,
        doubled=report.posts - report.distinct,
        p50_ms=percentile(took, 0.5),
        p99_ms=percentile(took, 0.99),
        cpu_us=cpu / load.messages * 1e6,
    )


async def _insert(on: Site, load: Load) -> dict[str, float]:
    """When each message was committed, by its recipient; in seconds since the epoch."""
    if not load.rate:
        await on.store.enqueue(1, load.messages)
        now = time.time()
        return {recipient(n): now for n in range(1, load.messages + 1)}
    committed: dict[str, float] = {}
    numbers = iter(range(1, load.messages + 1))
    started = time.monotonic()

    async def insert() -> None:
        # The beat goes on whatever an INSERT takes: a slow server is no excuse to offer less.
        for n in numbers:
            await asyncio.sleep(started + n / load.rate - time.monotonic())
            await on.store.enqueue_one(n)
            committed[recipient(n)] = time.time()

    async with asyncio.TaskGroup() as group:
        for _ in range(INSERTERS):
            group.create_task(insert())
    return committed
