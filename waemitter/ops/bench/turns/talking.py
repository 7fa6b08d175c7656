"""Many customers at once, each answered by an agent whose model takes its time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

from waemitter.db.pool import open_pool
from waemitter.ops.bench.cloud import BenchFailed, Cloud
from waemitter.ops.bench.daemons import Daemon
from waemitter.ops.bench.samples import percentile
from waemitter.ops.bench.site import Site
from waemitter.ops.bench.turns.store import TurnsStore

LOOK_EVERY: Final = 0.1  # seconds
PATIENCE: Final = 60.0
CONFIG: Final = """
[inbox]
buffer_duration = "10m"
buffer_max_age = "10m"

[[routes]]
name = "fallback"
fallback = true
handler = "agent"
agent = "assistant"

[agents.assistant]
model = "gpt-4o-mini"
system_prompt = "You answer for a shop that sells chairs, in a few short sentences."
tokens_per_day = 100_000_000
tokens_per_contact = 100_000
"""


@dataclass(frozen=True, slots=True)
class Talked:
    """Turns whose windows closed at the same moment: milliseconds from there to the commit of each one's replies.

    `beyond`: of the slowest but one in a hundred, what is not the model's time. `first_beyond`: the same of as many turns that
    went before, the daemon's first. `stray`: turns that were lost, tried again or unanswered. `resident`: the most bytes while
    they were worked on; `cpu_ms`: the daemon's, for each.
    """

    turns: int
    first_beyond_ms: float
    p50_ms: float
    p99_ms: float
    beyond_ms: float
    stray: int
    resident: int
    cpu_ms: float


async def talk(site: Site, cloud: Cloud, *, turns: int, latency: float) -> Talked:
    """`latency`: seconds that the model takes for each answer; it is a sink, too, so that its work is not what is measured."""
    config = site.directory / "agents.toml"
    config.write_text(CONFIG)
    async with (
        open_pool(site.stage.dsn, size=2, application_name="waemitter bench") as pool,
        site.sink(latency=latency) as model,
        site.daemon(
            cloud.graph_url,
            messages_per_second=0.0,
            settings={
                "WAEMITTER_CONFIG": str(config),
                "OPENAI_BASE_URL": f"{model.address}/v1",
                "OPENAI_API_KEY": "none",
            },
        ) as daemon,
    ):
        store = TurnsStore(pool)
        await site.store.clear()
        await store.begin()
        return await _talked(store, daemon, turns, latency)


async def _talked(store: TurnsStore, daemon: Daemon, turns: int, latency: float) -> Talked:
    async with _watched(daemon) as resident:
        first = percentile(await _burst(store, turns, before=0), 0.99)
        cpu = daemon.meter.cpu()
        took = await _burst(store, turns, before=turns)
        cpu = daemon.meter.cpu() - cpu
    p99 = percentile(took, 0.99)
    return Talked(
        turns=turns,
        first_beyond_ms=first - latency * 1000,
        p50_ms=percentile(took, 0.5),
        p99_ms=p99,
        beyond_ms=p99 - latency * 1000,
        stray=await store.stray(),
        resident=max(resident),
        cpu_ms=cpu / turns * 1000,
    )


async def _burst(store: TurnsStore, turns: int, *, before: int) -> list[float]:
    """So many new customers write, and their windows close together; returns how long each one's answer took."""
    await store.hear(*(_said(number) for number in range(before + 1, before + turns + 1)))
    await _until(store.open_windows, turns)
    last = await store.close_windows()
    await _until(store.ended, before + turns)
    took = await store.took_ms(after=last)
    if len(took) != turns:
        raise BenchFailed(f"{len(took)} of {turns} turns came to an end")
    return took


@asynccontextmanager
async def _watched(daemon: Daemon) -> AsyncIterator[list[int]]:
    found = [daemon.meter.resident()]

    async def watch() -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY)
            found.append(daemon.meter.resident())

    async with asyncio.TaskGroup() as group:
        watcher = group.create_task(watch())
        yield found
        watcher.cancel()


async def _until(count: Any, wanted: int) -> None:
    try:
        async with asyncio.timeout(PATIENCE):
            while await count() < wanted:  # noqa: ASYNC110 to be told, a trigger would have to run
                await asyncio.sleep(LOOK_EVERY)
    except TimeoutError:
        raise BenchFailed(
            f"{await count()} of {wanted} turns after {PATIENCE:.0f} s ({count.__name__})"
        ) from None


def _said(number: int) -> Mapping[str, Any]:
    """The webhook's value for one customer's message."""
    wa_id = f"1415{5_000_000 + number}"
    return {
        "messaging_product": "whatsapp",
        "metadata": {"display_phone_number": "15550783881", "phone_number_id": "111000111"},
        "contacts": [{"profile": {"name": f"Customer {number}"}, "wa_id": wa_id}],
        "messages": [
            {
                "from": wa_id,
                "id": f"wamid.bench{number}",
                "timestamp": "1795300000",
                "type": "text",
                "text": {"body": "Do you have the chair in green, and when can you bring it?"},
            }
        ],
    }
