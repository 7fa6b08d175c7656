"""Subscriptions and events as their tests drive them, over a real outbox."""

from __future__ import annotations

import datetime
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from tests.outbox_rows import Outbox, outbox_at
from waemitter.jobs.event_stream.delivery import Outcome
from waemitter.jobs.event_stream.event import TYPES, Event
from waemitter.jobs.event_stream.store import ClaimedEvents, EventStore, SettledEvents, Settlement

LEASE = datetime.timedelta(seconds=30)
DAY = datetime.timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Stream:
    outbox: Outbox
    store: EventStore

    async def subscribe(self, name: str = "shop", *types: str) -> None:
        await self.store.subscribe(
            name, kind="webhook", target="https://shop.test", types=types or TYPES
        )

    async def claim(self, name: str = "shop", limit: int = 100) -> ClaimedEvents:
        return await self.store.claim(name, limit=limit, lease=LEASE)

    async def settle(
        self,
        event: Event,
        outcome: Outcome = "delivered",
        *,
        delay: float = 0.0,
        name: str = "shop",
    ) -> SettledEvents:
        trouble = None if outcome == "delivered" else f"it was {outcome}"
        settlement = Settlement(event.id, event.attempt, outcome, delay, trouble)
        return await self.store.settle(name, [settlement], give_up=DAY, disable_after=3 * DAY)

    async def drain(self, name: str = "shop") -> list[Event]:
        """Deliver all that waits, in the order in which it may be."""
        drained: list[Event] = []
        while events := (await self.claim(name)).events:
            drained += events
            for event in events:
                await self.settle(event, name=name)
        return drained

    async def told(self, name: str = "shop") -> list[tuple[str, str]]:
        """Type and subject of what waits, and drain it."""
        return [(event.type, event.subject) for event in await self.drain(name)]

    async def count(self) -> int:
        count: int = await self.outbox.pool.fetchval("select count(*) from waemitter.event_outbox")
        return count

    async def subscription(self, name: str = "shop") -> dict[str, Any]:
        [row] = [each for each in await self.store.subscriptions() if each["name"] == name]
        return row

    async def put(self, subject: str, *, name: str = "shop", type: str = "message.sent") -> None:  # noqa: A002
        """An event of its own."""
        await self.outbox.pool.execute(
            "insert into waemitter.event_outbox (subscription, event_id, type, subject, data)"
            " values ($1, gen_random_uuid(), $2, $3, '{}')",
            name, type, subject,
        )  # fmt: skip

    async def shift(self, seconds: float) -> None:
        """Let time pass, for events and subscriptions."""
        by = datetime.timedelta(seconds=seconds)
        await self.outbox.pool.execute(
            "update waemitter.event_outbox set at = at - $1::interval, available_at = available_at - $1::interval", by
        )  # fmt: skip
        await self.outbox.pool.execute(
            "update waemitter.event_subscriptions set retry_at = retry_at - $1::interval,"
            " failing_since = failing_since - $1::interval",
            by,
        )


def facts(events: Sequence[Event]) -> list[dict[str, Any]]:
    return [json.loads(event.data) for event in events]


@asynccontextmanager
async def stream_at(dsn: str) -> AsyncIterator[Stream]:
    async with outbox_at(dsn) as outbox:
        yield Stream(outbox, EventStore(outbox.pool))
