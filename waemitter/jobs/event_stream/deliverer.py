"""One subscription's events, delivered: rows of event_outbox for the loop that drains all tables.

At least once: an event whose outcome could not be written is delivered again when its lease ends, under the same id.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Protocol

from typing_extensions import override

from waemitter.errors import DatabaseUnreachable
from waemitter.jobs.event_stream.delivery import Delivery, delay
from waemitter.jobs.event_stream.event import Event
from waemitter.jobs.event_stream.store import EventStore, Settlement
from waemitter.observe.events import Events
from waemitter.runtime.due_loop import Claim, DueTable

LARGEST: Final = 500
"""Outcomes in one statement."""


class Target(Protocol):
    """Where a subscription's events go."""

    async def deliver(self, event: Event) -> Delivery:
        """Send one and wait until it is taken; whatever goes wrong is in what it returns."""
        ...

    async def aclose(self) -> None:
        """Leave what it connected to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Seconds: what a claim leases, when one event is given up, and when the whole subscription is."""

    lease: float
    give_up_after: float
    disable_after: float


class Deliverer(DueTable[Event]):
    def __init__(
        self,
        subscription: str,
        target: Target,
        *,
        store: EventStore,
        events: Events,
        look_again: Callable[[], None],
        policy: Policy,
        clock: Callable[[], float],
        jitter: Callable[[], float],
    ) -> None:
        """`look_again()`: something is due sooner than was known; `clock`: seconds since 1970, for how late an event was."""
        self._subscription = subscription
        self._target = target
        self._store = store
        self._events = events
        self._look_again = look_again
        self._lease = timedelta(seconds=policy.lease)
        self._give_up = timedelta(seconds=policy.give_up_after)
        self._disable_after = timedelta(seconds=policy.disable_after)
        self._clock = clock
        self._jitter = jitter
        self._unwritten: list[tuple[Settlement, asyncio.Event]] = []
        self._writing = False

    @override
    async def claim(self, limit: int) -> Claim[Event]:
        claimed = await self._store.claim(self._subscription, limit=limit, lease=self._lease)
        return Claim(claimed.events, claimed.next_due)

    @override
    async def work(self, row: Event) -> None:
        delivery = await self._target.deliver(row)
        self._tell(row, delivery)
        later = delay(row.attempt, wait=delivery.wait, jitter=self._jitter())
        await self._settle(
            Settlement(row.id, row.attempt, delivery.outcome, later, delivery.trouble)
        )

    def _tell(self, row: Event, delivery: Delivery) -> None:
        if delivery.outcome == "delivered":
            self._events.event_delivered(
                subscription=self._subscription,
                event_id=row.event_id,
                event_type=row.type,
                attempt=row.attempt,
                age=max(self._clock() - row.at.timestamp(), 0.0),
            )
        else:
            self._events.event_not_delivered(
                subscription=self._subscription,
                event_id=row.event_id,
                event_type=row.type,
                attempt=row.attempt,
                outcome=delivery.outcome,
                trouble=delivery.trouble,
            )

    @override
    async def release(self, rows: Sequence[Event]) -> None:
        if rows:
            await self._write(
                [Settlement(row.id, row.attempt, "released", 0, None) for row in rows]
            )

    async def _settle(self, settlement: Settlement) -> None:
        """One writes for all who wait: a statement for many outcomes costs little more than for one."""
        written = asyncio.Event()
        self._unwritten.append((settlement, written))
        if self._writing:
            await written.wait()
            return
        self._writing = True
        try:
            while self._unwritten:
                batch, self._unwritten = self._unwritten[:LARGEST], self._unwritten[LARGEST:]
                await self._write([settlement for settlement, _ in batch])
                for _, done in batch:
                    done.set()
        finally:
            self._writing = False

    async def _write(self, settlements: Sequence[Settlement]) -> None:
        try:
            settled = await self._store.settle(
                self._subscription,
                settlements,
                give_up=self._give_up,
                disable_after=self._disable_after,
            )
        except DatabaseUnreachable as error:  # their leases end, and they are delivered once more
            self._events.database_lost(error=str(error))
            return
        if settled.woken or any(each.outcome != "delivered" for each in settlements):
            self._look_again()
        if settled.given_up:
            self._events.events_given_up(subscription=self._subscription, count=settled.given_up)
        if settled.disabled:
            self._events.subscription_disabled(
                subscription=self._subscription, reason=settled.disabled
            )
