"""The outbox in Postgres. The work is done by functions of schema.sql; here they get names, arguments and types."""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import asyncpg

from waemitter.db.at_hand import AtHand
from waemitter.db.pool import outages
from waemitter.observe.events import StatusResult
from waemitter.observe.outbox_events import Resolution
from waemitter.outbox.message import Attempt
from waemitter.outbox.retry import Decision


@dataclass(frozen=True, slots=True)
class Claimed:
    """Seconds since the epoch by the server's clock; `rate` in slots a second, 0 = no limit, None = not told."""

    attempts: list[Attempt]
    clock: float
    next_due: float | None
    not_before: float | None
    rate: float | None
    lost: int
    resent: int
    held: int


class Settlement(NamedTuple):
    """What became of one attempt."""

    message_id: int
    token: int
    decision: Decision


class Settled(NamedTuple):
    """`stale`: not settled, since the row has moved on; `woken`: lanes whose next message is due now."""

    stale: list[int]
    woken: int


class StatusUpdate(NamedTuple):
    """One status of Meta's, matched by our echo or by the wamid; the order is that of apply_statuses()."""

    message_id: int | None
    token: int | None
    wamid: str | None
    word: str
    at: datetime.datetime | None
    code: int | None
    reason: str | None
    category: str | None
    billable: bool | None


class Applied(NamedTuple):
    """`counts` by (word, applied | stale | parked | unknown); `freed`: lanes that go on.

    Of the unconfirmed, `resolved` were sent after all and `refuted` failed. `doubled`: attempts that Meta accepted beside
    another one of their message.
    """

    counts: dict[tuple[str, StatusResult], int]
    resolved: int
    refuted: int
    doubled: int
    freed: int

    def resolutions(self) -> Iterator[tuple[Resolution, int]]:
        """What there is to tell of attempts whose outcome was unknown."""
        counts: dict[Resolution, int] = {
            "confirmed": self.resolved,
            "failed": self.refuted,
            "duplicate": self.doubled,
        }
        return ((resolution, count) for resolution, count in counts.items() if count)

    def plus(self, other: Applied) -> Applied:
        counts = Counter(self.counts)
        counts.update(other.counts)
        return Applied(dict(counts), *map(sum, zip(self[1:], other[1:], strict=True)))


class ChannelState(NamedTuple):
    """`rate`: slots a second, 0 = no limit; `taken`: seconds for which they are given out, 0 = one is free now."""

    name: str
    rate: float
    paused: bool | None
    pause_reason: str | None
    taken: float


class Depth(NamedTuple):
    """Rows of a channel in a status (or `held`), and seconds since the oldest due one of them was due."""

    channel: str
    status: str
    rows: int
    oldest: float


class Chosen(NamedTuple):
    """Which rows an operator means; None = any. The order is that of LIST."""

    status: str | None = None
    channel: str | None = None
    campaign_id: int | None = None
    error_code: int | None = None
    older_than: datetime.timedelta | None = None


class OutboxStore:
    def __init__(
        self, pool: asyncpg.Pool[asyncpg.Record], *, at_hand: AtHand | None = None
    ) -> None:
        """`at_hand`: what a claim is asked for through; else the pool."""
        self._pool = pool
        self._at_hand = at_hand or pool

    CLAIM: Final = """
        select message_id as id, token, recipient, message_type, payload, attempt as number, max_attempts, correlation_id,
               slot, due, clock, next_due, not_before, rate, lost, resent, held
        from waemitter.claim_messages(channel => $1, max_rows => $2, lease => $3, horizon => $4, grace => $5,
                                      policy => $6, retries => $7)
    """

    async def claim(
        self,
        channel: str,
        *,
        limit: int,
        lease: datetime.timedelta,
        horizon: datetime.timedelta,
        grace: datetime.timedelta,
        policy: str,
        retries: int,
    ) -> Claimed:
        with outages():
            records = await self._at_hand.fetch(
                self.CLAIM, channel, limit, lease, horizon, grace, policy, retries
            )
        told = records.pop()  # the last row has no message, it tells how things stand
        return Claimed(
            [Attempt(*record[:10]) for record in records],
            told["clock"],
            told["next_due"],
            told["not_before"],
            told["rate"],
            told["lost"] or 0,
            told["resent"] or 0,
            told["held"] or 0,
        )

    SETTLE: Final = """
        select stale, woken
        from waemitter.settle_messages(ids => $1, tokens => $2, outcomes => $3, wamids => $4, delays => $5, codes => $6,
                                       reasons => $7, classes => $8)
    """

    async def settle(self, settlements: Sequence[Settlement]) -> Settled:
        """Write many outcomes in one statement. Doing it again with the same ones is harmless."""
        decisions = [settlement.decision for settlement in settlements]
        with outages():
            record = await self._pool.fetchrow(
                self.SETTLE,
                [settlement.message_id for settlement in settlements],
                [settlement.token for settlement in settlements],
                [decision.outcome for decision in decisions],
                [decision.wamid for decision in decisions],
                [decision.delay for decision in decisions],
                [decision.code for decision in decisions],
                [decision.reason for decision in decisions],
                [decision.error_class for decision in decisions],
            )
        assert record is not None  # noqa: S101 the function returns exactly one row
        return Settled(*record)

    APPLY_STATUSES: Final = """
        select status, result, n, resolved, doubled, freed
        from waemitter.apply_statuses(message_ids => $1, tokens => $2, wamids => $3, words => $4, times => $5,
                                      codes => $6, reasons => $7, categories => $8, billables => $9, heard => $10)
    """

    async def apply_statuses(
        self,
        connection: asyncpg.pool.PoolConnectionProxy[asyncpg.Record],
        updates: Sequence[StatusUpdate],
    ) -> Applied:
        """Within the caller's transaction, so that a status and the end of its webhook are one."""
        if not updates:
            return Applied({}, 0, 0, 0, 0)
        told = _told_columns(updates)
        return applied_of(await connection.fetch(self.APPLY_STATUSES, *told, True))  # noqa: FBT003

    async def answered_late(self, settlements: Sequence[Settlement]) -> Applied:
        """What Meta accepted, told by answers whose attempts were over when they were settled."""
        late = [
            StatusUpdate(message_id, token, decision.wamid, "sent", None, None, None, None, None)
            for message_id, token, decision in settlements
        ]
        with outages():
            told = _told_columns(late)
            return applied_of(await self._pool.fetch(self.APPLY_STATUSES, *told, False))  # noqa: FBT003

    ENSURE_CHANNEL: Final = """
        insert into waemitter.channels (name, kind, phone_number_id, messages_per_second, pair_seconds, pair_burst, limit_is_set)
        values ($1, $6, $2, coalesce($3::float8, 80), coalesce($4::float8, 6), coalesce($5::integer, 45), $3 is not null)
        on conflict (name) do update
        set kind = excluded.kind, phone_number_id = excluded.phone_number_id,
            messages_per_second = coalesce($3, channels.messages_per_second),
            pair_seconds = coalesce($4, channels.pair_seconds),
            pair_burst = coalesce($5, channels.pair_burst),
            limit_is_set = excluded.limit_is_set
        where channels.phone_number_id is distinct from excluded.phone_number_id or channels.kind <> excluded.kind
           or channels.limit_is_set <> excluded.limit_is_set
           or channels.messages_per_second <> $3 or channels.pair_seconds <> $4 or channels.pair_burst <> $5
    """

    async def ensure_channel(
        self,
        name: str,
        *,
        phone_number_id: str | None,
        messages_per_second: float | None,
        pair_seconds: float | None,
        pair_burst: int | None,
        kind: str = "whatsapp",
    ) -> None:
        """Make the channel's row agree with the settings; a limit of None leaves the row's own."""
        limits = (messages_per_second, pair_seconds, pair_burst)
        with outages():
            await self._pool.execute(self.ENSURE_CHANNEL, name, phone_number_id, *limits, kind)

    RESERVE_INBOUND: Final = "select waemitter.reserve_inbound(channel => $1, per_second => $2)"

    async def reserve_inbound(self, channel: str, per_second: int) -> None:
        """Leave that much of the number's limit to inbound messages, for a minute."""
        with outages():
            await self._pool.execute(self.RESERVE_INBOUND, channel, per_second)

    SWEEP: Final = "select waemitter.sweep_outbox()"

    async def sweep(self) -> int:
        """Free what a missed wake left parked. Returns how many rows failed for want of their channel."""
        with outages():
            strays: int = await self._pool.fetchval(self.SWEEP)
        return strays

    CHANNELS: Final = """
        select c.name,
               waemitter.send_rate(c.messages_per_second, c.throttle, c.throttled_at, b.inbound, b.inbound_at, now()) as rate,
               c.paused_until > clock_timestamp() as paused, c.pause_reason,
               extract(epoch from greatest(b.tat, now()) - now())::float8 as taken
        from waemitter.channels c join waemitter.channel_buckets b on b.channel = c.name
    """

    async def channels(self) -> list[ChannelState]:
        with outages():
            return [ChannelState(*record) for record in await self._pool.fetch(self.CHANNELS)]

    DEPTH: Final = """
        select channel, case when hold is not null then 'held' else status end as status, count(*) as rows,
               coalesce(extract(epoch from clock_timestamp()) - extract(epoch from min(available_at)
                        filter (where status = 'queued' and available_at <= clock_timestamp())), 0)::float8 as oldest
        from waemitter.outbox_messages where available_at is not null group by 1, 2
    """

    async def depth(self) -> list[Depth]:
        """What is in the queue. Counting takes a scan of the queue's index: not for every second."""
        with outages():
            return [Depth(*record) for record in await self._pool.fetch(self.DEPTH)]

    GET: Final = """
        select id, channel, recipient, message_type, payload, priority, status, hold, attempts, max_attempts, available_at,
               due_at, expires_at, ordering_key, idempotency_key, campaign_id, correlation_id, whatsapp_message_id,
               error_code, error_message, dry_run, billable, pricing_category, created_at, sent_at, delivered_at, read_at,
               failed_at, enqueued_by
        from waemitter.outbox_messages where id = $1
    """
    EVENTS: Final = """
        select at, from_status, to_status, detail from waemitter.outbox_events where message_id = $1 order by at
    """

    async def get(self, message_id: int) -> tuple[dict[str, Any], list[dict[str, Any]]] | None:
        """A row and its events, or None."""
        with outages():
            async with self._pool.acquire() as connection:
                record = await connection.fetchrow(self.GET, message_id)
                if record is None:
                    return None
                events = await connection.fetch(self.EVENTS, message_id)
        return dict(record), [dict(event) for event in events]

    ENQUEUE: Final = """
        select waemitter.send_message(recipient => $1, message_type => $2, payload => $3, channel => $4,
                                      idempotency_key => $5, available_at => $6, priority => $7)
    """

    async def enqueue(
        self,
        *,
        recipient: str,
        message_type: str,
        payload: str,
        channel: str = "default",
        idempotency_key: str | None = None,
        available_at: datetime.datetime | None = None,
        priority: int = 0,
    ) -> int:
        """The row's id; the first row's, when the idempotency key is known."""
        with outages():
            message_id: int = await self._pool.fetchval(
                self.ENQUEUE,
                recipient,
                message_type,
                payload,
                channel,
                idempotency_key,
                available_at,
                priority,
            )
        return message_id

    LIST: Final = """
        select id, channel, recipient, message_type, status, hold, attempts, error_code, error_message, created_at,
               available_at, sent_at
        from waemitter.outbox_messages
        where ($1::text is null or status = $1) and ($2::text is null or channel = $2)
          and ($3::bigint is null or campaign_id = $3) and ($4::integer is null or error_code = $4)
          and ($5::interval is null or created_at < clock_timestamp() - $5) and id < coalesce($7, 9223372036854775807)
        order by id desc limit $6
    """

    async def list(
        self, chosen: Chosen, *, limit: int, before: int | None = None
    ) -> Sequence[dict[str, Any]]:
        """The newest rows first; `before` an id pages on."""
        with outages():
            records = await self._pool.fetch(self.LIST, *chosen, limit, before)
        return [dict(record) for record in records]

    RETRY: Final = "select id from unnest($1::bigint[]) as u (id) where waemitter.retry_message(id)"
    CANCEL: Final = (
        "select id from unnest($1::bigint[]) as u (id) where waemitter.cancel_message(id)"
    )

    async def retry(self, ids: Sequence[int]) -> Sequence[int]:
        """Queue ended messages once more. Returns the ids for which it took effect."""
        with outages():
            return [record["id"] for record in await self._pool.fetch(self.RETRY, sorted(ids))]

    async def cancel(self, ids: Sequence[int]) -> Sequence[int]:
        """Returns the ids for which it was not too late."""
        with outages():
            return [record["id"] for record in await self._pool.fetch(self.CANCEL, sorted(ids))]


def _told_columns(updates: Sequence[StatusUpdate]) -> Sequence[Sequence[Any]]:
    """What no update tells is left out: unnest() fills it up with NULLs."""
    columns = zip(*updates, strict=True)
    return [() if column.count(None) == len(column) else column for column in columns]


def applied_of(records: Sequence[asyncpg.Record]) -> Applied:
    return Applied(
        {(record["status"], record["result"]): record["n"] for record in records},
        sum(record["resolved"] for record in records if record["status"] != "failed"),
        sum(record["resolved"] for record in records if record["status"] == "failed"),
        max((record["doubled"] for record in records), default=0),
        max((record["freed"] for record in records), default=0),
    )
