"""How fast webhooks are acknowledged, and worked off: at a steady rate, and at the most."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from waemitter.db.pool import open_pool
from waemitter.ops.bench.cloud import BenchFailed
from waemitter.ops.bench.daemons import Daemon
from waemitter.ops.bench.meter import Meter
from waemitter.ops.bench.samples import percentile
from waemitter.ops.bench.site import Site
from waemitter.ops.bench.webhooks.meta import WORDS, Meta, posts, status_body, wamid
from waemitter.ops.bench.webhooks.store import WebhookStore
from waemitter.ops.processes import child
from waemitter.ops.stage import APP_SECRET

LOOK_EVERY: Final = 0.1  # seconds
WORKED_OFF_WITHIN: Final = 300.0


@dataclass(frozen=True, slots=True)
class Heard:
    """Webhooks at a steady rate.

    Milliseconds to the answer; `missing`: answered with 200 and not in the journal; `lag`: the most seconds that one waited for
    the splitter; `resident`: the daemon's bytes of memory afterwards; `cpu_us`: its microseconds of CPU for each, with the
    splitting.
    """

    webhooks: int
    rate: float
    p50_ms: float
    p99_ms: float
    refused: int
    missing: int
    lag: float
    resident: int
    cpu_us: float


@dataclass(frozen=True, slots=True)
class Ceiling:
    """Webhooks a second at the most: the daemon's, that of a bare handler, and of a bare group commit.

    `lag`: the most seconds that one waited for the splitter, which runs all the time. `…_cpu_us`: microseconds of a core for
    each, of the process alone, without Postgres; the daemon's until the last answer, with what it split meanwhile.
    """

    webhooks: int
    daemon: float
    bare: float
    together: float
    lag: float
    daemon_cpu_us: float
    bare_cpu_us: float
    together_cpu_us: float


@dataclass(frozen=True, slots=True)
class Applied:
    """Statuses a second that the splitter applies, three a message, one a webhook; `wrong`: messages that are not `read`."""

    statuses: int
    rate: float
    wrong: int


async def hear(site: Site, daemon: Daemon, *, rate: float, seconds: float) -> Heard:
    count = int(rate * seconds)
    async with _opened(site, count) as store:
        requests = posts(count, address=daemon.address, secret=APP_SECRET)
        cpu = daemon.meter.cpu()
        async with _lag(store) as lag:
            answers = await Meta(requests).post(daemon.address, rate=rate)
            resident = daemon.meter.resident()
            await _worked_off(store)
        return Heard(
            webhooks=count,
            rate=count / answers.seconds,
            p50_ms=percentile(answers.took_ms, 0.5),
            p99_ms=percentile(answers.took_ms, 0.99),
            refused=answers.refused,
            missing=count - answers.refused - await store.journalled(),
            lag=max(lag),
            resident=resident,
            cpu_us=(daemon.meter.cpu() - cpu) / count * 1e6,
        )


async def ceiling(site: Site, daemon: Daemon, webhooks: int) -> Ceiling:
    """One after the other, the bare ones before and after: the machine's mood shows."""
    bare, bare_cpu = await _bare(site, webhooks)
    async with _opened(site, webhooks) as store, _lag(store) as lag:
        rate, cpu = await _flat_out(daemon.address, webhooks, daemon.meter)
        await _worked_off(store)
    together, together_cpu = await _bare(site, webhooks, "--together")
    return Ceiling(webhooks, rate, bare, together, max(lag), cpu, bare_cpu, together_cpu)


async def applied(site: Site, statuses: int) -> Applied:
    async with _opened(site, statuses) as store:
        bodies = [status_body(number) for number in range(statuses)]
        began = time.perf_counter()
        await store.preload(bodies)
        await _worked_off(store)
        seconds = time.perf_counter() - began
        return Applied(statuses, statuses / seconds, statuses // len(WORDS) - await store.read())


@asynccontextmanager
async def _opened(site: Site, webhooks: int) -> AsyncIterator[WebhookStore]:
    async with open_pool(site.stage.dsn, size=2, application_name="waemitter bench") as pool:
        store = WebhookStore(pool)
        await site.store.clear()
        await store.begin([wamid(number) for number in range(webhooks // len(WORDS))])
        yield store


@asynccontextmanager
async def _lag(store: WebhookStore) -> AsyncIterator[list[float]]:
    found = [0.0]

    async def watch() -> None:
        while True:
            found.append(await store.lag())
            await asyncio.sleep(LOOK_EVERY)

    async with asyncio.TaskGroup() as group:
        watcher = group.create_task(watch())
        yield found
        watcher.cancel()


async def _worked_off(store: WebhookStore) -> None:
    try:
        async with asyncio.timeout(WORKED_OFF_WITHIN):
            while await store.waiting():  # noqa: ASYNC110 to be told, a trigger would have to run
                await asyncio.sleep(LOOK_EVERY / 5)
    except TimeoutError:
        raise BenchFailed(f"webhooks still wait after {WORKED_OFF_WITHIN:.0f} s") from None


async def _flat_out(address: str, webhooks: int, meter: Meter) -> tuple[float, float]:
    requests = posts(webhooks, address=address, secret=APP_SECRET)
    cpu = meter.cpu()
    answers = await Meta(requests).post(address)
    if answers.refused:
        raise BenchFailed(f"{answers.refused} of {webhooks} webhooks were refused")
    return webhooks / answers.seconds, (meter.cpu() - cpu) / webhooks * 1e6


async def _bare(site: Site, webhooks: int, *flags: str) -> tuple[float, float]:
    arguments = (
        *("-m", "waemitter.ops.bench.webhooks.bare"),
        *("--dsn", site.stage.dsn),
        *("--secret", APP_SECRET),
        *flags,
    )
    async with child("the bare handler", arguments) as running:
        address = (await running.event("BARE_STARTED"))["address"]
        return await _flat_out(address, webhooks, Meter(running.pid))
