"""The demo: a Postgres, a Cloud API, a model and customers, all simulated but the daemon; a campaign and a conversation."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from waemitter.db.pool import open_pool
from waemitter.errors import WaemitterError
from waemitter.ops.processes import Child
from waemitter.ops.stage import Stage, stage
from waemitter.ops.store import Funnel, OpsStore, Talk
from waemitter.ops.talk import MODEL_LATENCY, agents_installed, environment, talk
from waemitter.outbox.campaigns.enqueue import enqueue
from waemitter.outbox.campaigns.form import Form
from waemitter.outbox.campaigns.recipients import Recipient
from waemitter.outbox.campaigns.store import CampaignStore, NewCampaign

LOOK_EVERY: Final = 0.25  # seconds between two looks at the progress
ONE_BY_ONE: Final = (
    50  # messages that are sent singly afterwards, to measure how fast a row is picked up
)
PAUSE: Final = 0.06  # seconds between those: the daemon is idle again
UNDELIVERABLE: Final = 40  # every so many goes to a number that is not on WhatsApp
PATIENCE: Final = 120.0  # seconds without any progress

SIMULATOR: Final = (
    *("--sent-delay", "0.02", "0.2"),
    *("--delivered-delay", "0.1", "0.6"),
    *("--read-delay", "0.2", "1.5"),
    *("--read-probability", "0.7"),
    *("--reply-probability", "0.1"),
    *("--error-mix", "131016=0.02"),
    *("--latency", "0.05"),
    *("--jitter", "0.05"),
    *("--model-latency", str(MODEL_LATENCY)),
    *("--model-reply", "Thank you for writing. Your question has the number {n}."),
)
DAEMON: Final = {"WAEMITTER_OUTBOX__RETRY_DELAYS": "0.5,1,2,4"}


class DemoFailed(WaemitterError):
    """The demo did not come to its end."""


@dataclass(frozen=True, slots=True)
class Summary:
    """How the demo ended. `rate` in messages a second, `peak` the most in any sliding second; pickups in ms.

    `answers`: turns of customers that were answered; `answer_p50_ms` from the end of their windows, the model's time included.
    """

    messages: int
    sent: int
    delivered: int
    read: int
    failed: int
    retried: int
    duplicates: int
    replies: int
    rate: float
    peak: int
    pickup_p50_ms: float
    pickup_p99_ms: float
    answers: int
    answer_p50_ms: float


class View(Protocol):
    """What shows the demo: live bars on a terminal, plain lines elsewhere."""

    def told(self, line: str) -> None: ...
    def progress(self, funnel: Funnel, replies: int, talk: Talk) -> None: ...


@asynccontextmanager
async def demo(messages: int, view: View) -> AsyncIterator[tuple[Summary, str]]:
    """Run the campaign; yields the summary and the daemon's address while all still runs."""
    view.told("starting a Postgres, a simulated Cloud API and the daemon …")
    with tempfile.TemporaryDirectory(prefix="waemitter-demo-") as folder:
        async with stage() as on:
            await on.simulate(*SIMULATOR)
            daemon, address = await on.daemon(DAEMON | dict(environment(Path(folder), on)))
            await on.announce(address)
            view.told(f"the daemon answers at {address} (/dashboard, /health, /metrics)")
            view.told(f"look into the database: psql '{on.dsn}'")
            async with open_pool(on.dsn, size=2) as pool:
                yield (
                    await _played(on, daemon, OpsStore(pool), CampaignStore(pool), messages, view),
                    address,
                )


async def _played(
    on: Stage,
    daemon: Child,
    store: OpsStore,
    campaigns: CampaignStore,
    messages: int,
    view: View,
) -> Summary:
    one_by_one = min(ONE_BY_ONE, messages // 4)
    campaign = await _campaign(campaigns, messages - one_by_one)
    view.told(f"campaign {campaign}: {messages - one_by_one} messages are in the outbox")
    await _follow(on, daemon, store, view)
    committed = await _send_singly(store, one_by_one)
    await _follow(on, daemon, store, view)
    if agents_installed():
        view.told("a customer writes, and an agent answers, whose model is simulated:")
        await talk(on, store, view.told)
        await _follow(on, daemon, store, view)
    else:
        view.told("pip install 'waemitter[agents]', and customers are answered by an agent")
    for to in await store.retried():  # their arrival tells of the retry's patience
        committed.pop(to, None)
    return await _summary(on, store, campaign, await _pickups(on, committed))


async def _campaign(campaigns: CampaignStore, messages: int) -> int:
    """Fill it and start it: each message to a customer of its own, but for some to numbers that are not on WhatsApp."""
    campaign = await campaigns.create(NewCampaign("Orders on their way", message_type="text"))
    form = Form("text", {"text": {"body": "Order {{order}} is on its way"}})
    entries = [
        Recipient(
            f"+1415{n:03}131026" if n % UNDELIVERABLE == 0 else f"+1415{5_550_000 + n}",
            {"order": str(n)},
        )
        for n in range(1, messages + 1)
    ]
    await enqueue(campaigns, campaign, form, entries, zoned=False)
    await campaigns.change(campaign, "start")
    return campaign


async def _follow(on: Stage, daemon: Child, store: OpsStore, view: View) -> None:
    """Show the progress until nothing more is to be heard of any message."""
    seen: tuple[object, ...] = ()
    moved = time.monotonic()
    looks_the_same = 0
    while True:
        funnel = await store.funnel()
        report = await on.control("GET", "report")
        replies = report["customer_messages"]
        spoken = await store.talk()
        view.progress(funnel, replies, spoken)
        ended = funnel.waiting + spoken.waiting == 0 and report["pending_webhooks"] == 0
        if ended and looks_the_same and await store.unfinished() == 0:
            return
        looks_the_same += 1
        if (now := (*funnel, replies, *spoken)) != seen:
            seen, moved, looks_the_same = now, time.monotonic(), 0
        elif time.monotonic() - moved > PATIENCE:
            raise DemoFailed(f"nothing moves any more; the daemon said:\n{daemon.last_words()}")
        if daemon.process.returncode is not None:
            raise DemoFailed(f"the daemon ended; it said:\n{daemon.last_words()}")
        await asyncio.sleep(LOOK_EVERY)


async def _send_singly(store: OpsStore, count: int) -> dict[str, float]:
    """Enqueue one message after the other; when each was committed, by its recipient."""
    committed: dict[str, float] = {}
    for n in range(count):
        to = f"1415777{n:04}"
        await store.enqueue_one(f"+{to}", f"Your code is {n:06}")
        committed[to] = time.time()
        await asyncio.sleep(PAUSE)
    return committed


async def _pickups(on: Stage, committed: dict[str, float]) -> list[float]:
    """Milliseconds from each commit to the arrival of its request, sorted."""
    page = await on.control("GET", "messages?limit=10000")
    # The first to each: who writes back is answered as well.
    arrived = {row["to"]: row["accepted_at"] for row in reversed(page["messages"])}
    return sorted(
        max(0.0, arrived[to] - at) * 1000 for to, at in committed.items() if to in arrived
    )


async def _summary(on: Stage, store: OpsStore, campaign: int, pickups: list[float]) -> Summary:
    funnel, spoken = await store.funnel(), await store.talk()
    report = await on.control("GET", "report")
    return Summary(
        messages=funnel.total,
        sent=funnel.sent,
        delivered=funnel.delivered,
        read=funnel.read,
        failed=funnel.failed,
        retried=funnel.retried,
        duplicates=report["duplicates"],
        replies=report["customer_messages"],
        rate=await store.pace(campaign),
        peak=report["peak_per_second"],
        pickup_p50_ms=pickups[len(pickups) // 2] if pickups else 0.0,
        pickup_p99_ms=pickups[int(len(pickups) * 0.99)] if pickups else 0.0,
        answers=spoken.answered,
        answer_p50_ms=spoken.median * 1000,
    )
