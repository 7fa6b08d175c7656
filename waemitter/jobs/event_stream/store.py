"""Subscriptions and their events in Postgres; functions of schema.sql claim and settle."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import asyncpg

from waemitter.db.pool import outages
from waemitter.errors import NotFound
from waemitter.jobs.event_stream.delivery import Outcome
from waemitter.jobs.event_stream.event import TEST, Event
from waemitter.observe.trace import valid


class ClaimedEvents(NamedTuple):
    """`next_due`: seconds until there is something to do; None: nothing waits."""

    events: tuple[Event, ...]
    next_due: float | None


class Settlement(NamedTuple):
    """What became of one attempt; `delay` in seconds."""

    id: int
    attempt: int
    outcome: Outcome
    delay: float
    trouble: str | None


class SettledEvents(NamedTuple):
    """How many events were given up, how many may go on behind them, and why the subscription was disabled, if it was."""

    given_up: int
    woken: int
    disabled: str | None


class EventStore:
    def __init__(self, pool: asyncpg.Pool[asyncpg.Record]) -> None:
        self._pool = pool

    CLAIM: Final = """
        select id, event_id, type, subject, channel, at, data, traceparent, attempt, next_due
        from waemitter.claim_events(subscription => $1, max_rows => $2, lease => $3)
    """

    async def claim(
        self, subscription: str, *, limit: int, lease: datetime.timedelta
    ) -> ClaimedEvents:
        with outages():
            records = await self._pool.fetch(self.CLAIM, subscription, limit, lease)
        events = tuple(
            _event(row)._replace(traceparent=valid(row["traceparent"]))
            for row in records
            if row["event_id"] is not None
        )
        return ClaimedEvents(events, records[0]["next_due"])

    SETTLE: Final = """
        select given_up, coalesce(woken, 0) as woken, disabled from waemitter.settle_events(
          subscription => $1, ids => $2, attempts => $3, outcomes => $4, delays => $5, errors => $6,
          give_up => $7, disable_after => $8)
    """

    async def settle(
        self,
        subscription: str,
        settlements: Sequence[Settlement],
        *,
        give_up: datetime.timedelta,
        disable_after: datetime.timedelta,
    ) -> SettledEvents:
        """Write many outcomes at once; what another attempt has by now stays as it is."""
        columns = list(zip(*settlements, strict=True))
        with outages():
            record = await self._pool.fetchrow(
                self.SETTLE, subscription, *columns, give_up, disable_after
            )
        assert record is not None  # noqa: S101 a function with out parameters returns a row
        return SettledEvents(*record)

    SUBSCRIBE: Final = (
        "select waemitter.subscribe_events(name => $1, kind => $2, target => $3, types => $4)"
    )

    async def subscribe(self, name: str, *, kind: str, target: str, types: Sequence[str]) -> bool:
        """Make the subscription's row agree with the settings; True: that is news."""
        with outages():
            news: bool = await self._pool.fetchval(self.SUBSCRIBE, name, kind, target, list(types))
        return news

    LIST: Final = """
        select s.name, s.kind, s.target, s.types, s.disabled_at, s.disabled_reason, s.failing_since, s.last_error, s.retry_at,
          w.waiting, w.oldest_at,
          (select max(d.delivered_at) from (
             select e.delivered_at from waemitter.event_outbox e
             where e.subscription = s.name order by e.id desc limit 1000) d) as last_delivered_at
        from waemitter.event_subscriptions s cross join lateral (
          select count(*) as waiting, min(e.at) as oldest_at from (
            select at from waemitter.event_outbox e
            where e.subscription = s.name and e.available_at is not null limit 100000) e) w
        order by s.name
    """

    async def subscriptions(self) -> list[dict[str, Any]]:
        """Every subscription and how it fares; `waiting` counts to a hundred thousand."""
        with outages():
            records = await self._pool.fetch(self.LIST)
        return [dict(record) for record in records]

    ENABLE: Final = "select waemitter.enable_events(name => $1, enabled => $2)"
    KNOWN: Final = "select name from waemitter.event_subscriptions order by name"

    async def enable(self, name: str, *, enabled: bool) -> bool:
        """False: it was so already. Raises NotFound."""
        with outages():
            changed: bool = await self._pool.fetchval(self.ENABLE, name, enabled)
        if not changed:
            await self._require(name)
        return changed

    async def known(self) -> list[str]:
        with outages():
            return [row["name"] for row in await self._pool.fetch(self.KNOWN)]

    async def _require(self, name: str) -> None:
        if name not in await self.known():
            raise NotFound(
                f"there is no subscription {name!r}: a daemon makes it of [events.{name}] in waemitter.toml when it starts"
            )

    FORGET: Final = "select waemitter.unsubscribe_events(name => $1)"

    async def forget(self, name: str) -> None:
        """Raises NotFound."""
        with outages():
            gone = await self._pool.fetchval(self.FORGET, name)
        if not gone:
            await self._require(name)

    REDELIVER: Final = "select waemitter.redeliver_events(subscription => $1, since => clock_timestamp() - $2::interval)"

    async def redeliver(self, name: str, *, ago: datetime.timedelta) -> int:
        """Deliver once more what happened since then; how many events. Raises NotFound."""
        await self._require(name)
        with outages():
            count: int = await self._pool.fetchval(self.REDELIVER, name, ago)
        return count

    PUT_TEST: Final = """
        insert into waemitter.event_outbox (subscription, event_id, type, subject, data)
        select s.name, gen_random_uuid(), $2, 'subscriptions/' || s.name, jsonb_build_object('subscription', s.name)
        from waemitter.event_subscriptions s where s.name = $1 and s.disabled_at is null returning id
    """
    RING: Final = "select pg_notify('waemitter_events', '')"

    async def test(self, name: str) -> int | None:
        """Put a test event of its own behind what waits; its row's id, or None for a disabled subscription. Raises NotFound."""
        await self._require(name)
        with outages():
            row: int | None = await self._pool.fetchval(self.PUT_TEST, name, TEST)
            await self._pool.execute(self.RING)
        return row

    FATE: Final = "select delivered_at is not null as delivered, attempts, error from waemitter.event_outbox where id = $1"

    async def fate(self, row: int) -> dict[str, Any]:
        """What became of a row so far: delivered, attempts, error."""
        with outages():
            record = await self._pool.fetchrow(self.FATE, row)
        return dict(record) if record else {"delivered": False, "attempts": 0, "error": "deleted"}


def _event(row: asyncpg.Record) -> Event:
    number, event_id, *others, _ = row
    return Event(number, str(event_id), *others)
