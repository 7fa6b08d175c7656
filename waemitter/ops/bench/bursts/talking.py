"""Customers write in bursts whose windows overlap; each burst is to be one turn, answered once, in time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import orjson

from waemitter.db.pool import open_pool
from waemitter.ops.bench.bursts.store import BurstsStore
from waemitter.ops.bench.cloud import BenchFailed, SinkCloud
from waemitter.ops.bench.daemons import Daemon
from waemitter.ops.bench.site import Site, patience
from waemitter.ops.bench.webhooks.meta import Meta, signed
from waemitter.ops.processes import child
from waemitter.ops.stage import APP_SECRET, NUMBER_ID

BURST: Final = 3
"""Messages of one customer."""
APART: Final = 0.5
"""Seconds between them."""
WINDOW: Final = 2.0
"""Seconds that a window is open."""
LOOK_EVERY: Final = 0.2  # seconds
LIMIT: Final = 1000.0
"""Messages a second of the number: what the replies may be sent at."""
ROUTES: Final = """
[inbox]
buffer_mode = "fixed"
buffer_duration = "{window}s"

[[routes]]
name = "service"
fallback = true
handler = "http"
url = "{url}/turns"
"""


@dataclass(frozen=True, slots=True)
class Talked:
    """`wrong`: conversations that were not one turn with all messages; `strays`: replies too many or too few, sent or stored.

    Milliseconds from the end of a window to the claim of its turn; `resident`: the most bytes of memory; `cpu_us`: the daemon's
    microseconds for each turn, webhooks and replies included.
    """

    conversations: int
    rate: float
    wrong: int
    strays: int
    refused: int
    late_p50_ms: float
    late_p99_ms: float
    late_most_ms: float
    resident: int
    cpu_us: float


async def talk(site: Site, *, conversations: int, rate: float) -> Talked:
    """So many conversations, `rate` of them begun in a second."""
    async with (
        child("the service", ("-m", "waemitter.ops.bench.bursts.service")) as service,
        site.sink() as cloud,
    ):
        address = (await service.event("SERVICE_STARTED"))["address"]
        file = site.directory / "bursts.toml"
        file.write_text(ROUTES.format(window=WINDOW, url=address))
        settings = {"WAEMITTER_CONFIG": str(file)}
        async with (
            site.daemon(cloud.graph_url, messages_per_second=LIMIT, settings=settings) as daemon,
            open_pool(site.stage.dsn, size=2, application_name="waemitter bench") as pool,
        ):
            store = BurstsStore(pool)
            await site.store.clear()
            await store.begin()
            return await _measured(
                site, daemon, store, cloud, service=address, conversations=conversations, rate=rate
            )


async def _measured(
    site: Site,
    daemon: Daemon,
    store: BurstsStore,
    cloud: SinkCloud,
    *,
    service: str,
    conversations: int,
    rate: float,
) -> Talked:
    bodies = _bodies(conversations, rate)
    requests = signed(bodies, address=daemon.address, secret=APP_SECRET)
    cpu, most = daemon.meter.cpu(), [daemon.meter.resident()]

    async def watch() -> None:
        while True:
            most.append(daemon.meter.resident())
            await asyncio.sleep(LOOK_EVERY)

    async with asyncio.TaskGroup() as group:
        watching = group.create_task(watch())
        answers = await Meta(requests).post(daemon.address, rate=rate * BURST)
        await _completed(store, conversations)
        await site.settled(within=patience(conversations))
        watching.cancel()
    ended = await store.ended(BURST)
    sent = await cloud.report()
    async with site.session.get(f"{service}/report") as response:
        asked = orjson.loads(await response.read())
    return Talked(
        conversations=conversations,
        rate=conversations * BURST / answers.seconds / BURST,
        wrong=_off(ended.turns, conversations)
        + (conversations - min(ended.whole, conversations))
        + _off(asked["turns"], conversations)
        + _off(asked["customers"], conversations),
        strays=_off(ended.replies, conversations)
        + _off(ended.answered, conversations)
        + _off(sent.posts, conversations)
        + _off(sent.distinct, conversations),
        refused=answers.refused,
        late_p50_ms=ended.late_p50 * 1000,
        late_p99_ms=ended.late_p99 * 1000,
        late_most_ms=ended.late_most * 1000,
        resident=max(most),
        cpu_us=(daemon.meter.cpu() - cpu) / conversations * 1e6,
    )


async def _completed(store: BurstsStore, conversations: int) -> None:
    until = time.perf_counter() + patience(conversations)
    while await store.completed() < conversations:
        if time.perf_counter() > until:
            raise BenchFailed(f"{await store.completed()} of {conversations} turns have ended")
        await asyncio.sleep(LOOK_EVERY)


def _off(count: int, wanted: int) -> int:
    return abs(count - wanted)


def _bodies(conversations: int, rate: float) -> Iterator[bytes]:
    """Webhooks in the order of their times: each customer's messages are APART, and a customer begins every 1/rate s."""
    times = [
        (number / rate + place * APART, number, place)
        for number in range(conversations)
        for place in range(BURST)
    ]
    stamp = int(time.time())
    for _, number, place in sorted(times):
        yield _body(number, place, stamp)


def _body(number: int, place: int, stamp: int) -> bytes:
    sender = f"1415{5_550_000 + number}"
    message = {
        "from": sender,
        "id": f"wamid.HBgLMTQxNTU1NTAxMjMVAgASGBQzQUQ0{number:07}{place}",
        "timestamp": str(stamp + place),
        "type": "text",
        "text": {"body": f"Message {place + 1} of customer {number}"},
    }
    value = {
        "messaging_product": "whatsapp",
        "metadata": {"display_phone_number": "15550783881", "phone_number_id": NUMBER_ID},
        "contacts": [{"profile": {"name": "Ada"}, "wa_id": sender}],
        "messages": [message],
    }
    entry = {"id": "102290129340398", "changes": [{"value": value, "field": "messages"}]}
    return orjson.dumps({"object": "whatsapp_business_account", "entry": [entry]})
