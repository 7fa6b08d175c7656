"""Operators who look on, and Prometheus that scrapes, while the outbox is large."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import aiohttp

from waemitter.db.pool import open_pool
from waemitter.ops.bench.cloud import BenchFailed
from waemitter.ops.bench.daemons import Daemon
from waemitter.ops.bench.dashboard.store import ViewStore
from waemitter.ops.bench.samples import percentile
from waemitter.ops.bench.site import Site

REDRAWN_EVERY: Final = 1.0  # seconds, as the page's own script
STIRRED_EVERY: Final = 0.05  # seconds
PATIENCE: Final = 30.0
SCRAPES_APART: Final = 0.05


@dataclass(frozen=True, slots=True)
class Viewed:
    """Milliseconds until the first byte of a page that was not read before; statements a second of a daemon that is watched.

    `update_*`: from the commit of a change until a page that shows it has arrived; `scrape_*`: /metrics, whole;
    `scrape_statements`: for each scrape.
    """

    rows: int
    viewers: int
    first_byte_p50_ms: float
    first_byte_p99_ms: float
    list_p99_ms: float
    statements_per_second: float
    update_p50_ms: float
    update_p99_ms: float
    scrape_p50_ms: float
    scrape_p99_ms: float
    scrape_statements: float


async def view(
    site: Site, daemon: Daemon, *, rows: int, viewers: int, seconds: float, looks: int, apart: float
) -> Viewed:
    """`seconds`: how long the viewers look on; `looks`: pages, changes and scrapes that are timed, each.

    `apart`: seconds between two looks; after one, nothing that was read for a page is shown again.
    """
    await site.store.clear()
    await site.store.history(rows)
    async with (
        open_pool(site.stage.dsn, size=2, application_name="waemitter bench") as pool,
        aiohttp.ClientSession(
            base_url=daemon.address, timeout=aiohttp.ClientTimeout(total=PATIENCE)
        ) as session,
    ):
        store = ViewStore(pool)
        await store.analyze()
        for path in ("/dashboard", "/dashboard/outbox"):
            await _first_bytes(
                session, path, 1, apart
            )  # the templates are read and the statements planned
        overview = await _first_bytes(session, "/dashboard", looks, apart)
        listed = await _first_bytes(session, "/dashboard/outbox", looks, apart)
        scrapes, scrape_statements = await _scrapes(site, session, looks)
        updates = await _updates(session, store, looks, apart)
        spoken = await _statements(site, session, store, viewers, seconds, apart)
    return Viewed(
        rows=rows,
        viewers=viewers,
        first_byte_p50_ms=percentile(overview, 0.5),
        first_byte_p99_ms=percentile(overview, 0.99),
        list_p99_ms=percentile(listed, 0.99),
        statements_per_second=spoken,
        update_p50_ms=percentile(updates, 0.5),
        update_p99_ms=percentile(updates, 0.99),
        scrape_p50_ms=percentile(scrapes, 0.5),
        scrape_p99_ms=percentile(scrapes, 0.99),
        scrape_statements=scrape_statements,
    )


async def _first_bytes(
    session: aiohttp.ClientSession, path: str, looks: int, apart: float
) -> list[float]:
    took = []
    for _ in range(looks):
        await asyncio.sleep(apart)
        began = time.perf_counter()
        async with session.get(path) as page:
            page.raise_for_status()
            await page.content.readany()
            took.append((time.perf_counter() - began) * 1000)
            await page.read()
    return took


async def _scrapes(
    site: Site, session: aiohttp.ClientSession, looks: int
) -> tuple[list[float], float]:
    """Milliseconds; and the statements of each, but for those that the daemon asks in the same time anyway."""
    took: list[float] = []
    before = site.statements_logged()
    await asyncio.sleep(SCRAPES_APART * looks)
    between = site.statements_logged()
    for _ in range(looks):
        await asyncio.sleep(SCRAPES_APART)
        began = time.perf_counter()
        async with session.get("/metrics") as answer:
            answer.raise_for_status()
            await answer.read()
        took.append((time.perf_counter() - began) * 1000)
    idle, scraped = between - before, site.statements_logged() - between
    return took, max(0.0, (scraped - idle) / looks)


async def _updates(
    session: aiohttp.ClientSession, store: ViewStore, looks: int, apart: float
) -> list[float]:
    """Milliseconds from a change to a page that shows it, for somebody who watches."""
    took = []
    async with _stream(session) as stream:
        for n in range(looks):
            await asyncio.sleep(apart)
            word = f"GRADE{n}"
            began = time.perf_counter()
            await store.grade(word)
            while True:
                await _changed(stream)
                async with session.get("/dashboard/channels") as page:
                    if word in await page.text():
                        break
            took.append((time.perf_counter() - began) * 1000)
    return took


async def _statements(
    site: Site,
    session: aiohttp.ClientSession,
    store: ViewStore,
    viewers: int,
    seconds: float,
    apart: float,
) -> float:
    """Of the daemon, in a second, while there is always something new and so many look on."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_watch(session)) for _ in range(viewers)]
        tasks.append(group.create_task(_stir(store)))
        await asyncio.sleep(apart)
        before = site.statements_logged()
        await asyncio.sleep(seconds)
        asked = site.statements_logged() - before
        for task in tasks:
            task.cancel()
    return asked / seconds


async def _stir(store: ViewStore) -> None:
    """More changes than viewers are told of."""
    while True:
        await store.grade("GREEN")
        await asyncio.sleep(STIRRED_EVERY)


async def _watch(session: aiohttp.ClientSession) -> None:
    """An open overview, as its script keeps it up to date."""
    async with _stream(session) as stream:
        while True:
            await _changed(stream)
            async with session.get("/dashboard") as page:
                await page.read()
            await asyncio.sleep(REDRAWN_EVERY)


@asynccontextmanager
async def _stream(session: aiohttp.ClientSession) -> AsyncIterator[aiohttp.StreamReader]:
    async with session.get(
        "/dashboard/events", timeout=aiohttp.ClientTimeout(total=None)
    ) as stream:
        stream.raise_for_status()
        yield stream.content


async def _changed(stream: aiohttp.StreamReader) -> None:
    """Wait until something changes. Raises BenchFailed when that takes too long."""
    try:
        async with asyncio.timeout(PATIENCE):
            while b"event: changed" not in await stream.readuntil(b"\n\n"):
                pass
    except TimeoutError:
        raise BenchFailed("nothing changed on the dashboard") from None
