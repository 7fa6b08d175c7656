"""Journalled webhooks, to be worked on, and what becomes of their items. Functions of schema.sql do the work."""

from __future__ import annotations

import datetime
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from operator import itemgetter
from typing import Final, Literal, NamedTuple, TypeAlias

import asyncpg

from waemitter.db.pool import outages
from waemitter.outbox.store import StatusUpdate

Connection: TypeAlias = "asyncpg.pool.PoolConnectionProxy[asyncpg.Record]"


@dataclass(frozen=True, slots=True)
class Webhook:
    """A journalled body, leased to be worked on."""

    id: int
    source: str
    body: bytes
    attempts: int


class Key(NamedTuple):
    """What was handled: an id (or a digest), in which field, for which number or account."""

    id: str
    field: str
    scope: str


class Inbound(NamedTuple):
    """A message from a user; the order is that of receive_messages(). `payload` and `contact` are JSON text."""

    number: str | None
    wamid: str
    type: str
    wa_id: str | None
    user_id: str | None
    group_id: str | None
    name: str | None
    username: str | None
    sent_at: datetime.datetime | None
    opens: bool  # the 24-hour window
    payload: str
    contact: str | None
    webhook_id: int


class Received(NamedTuple):
    """What became of the n-th message (from 0): `received`, `duplicate`, or `unknown_number`, without ids."""

    n: int
    result: Literal["received", "duplicate", "unknown_number"]
    message_id: int | None
    conversation_id: int | None
    contact_id: int | None
    channel: str | None


class Moved(NamedTuple):
    """A contact goes by other addresses since `at`; the order is that of follow_contact()."""

    channel: str
    contact_id: int
    former: list[str]
    wa_id: str | None
    user_id: str | None
    at: datetime.datetime | None


class Answer(NamedTuple):
    """A customer's message, which may answer a campaign's: `wamid` is what it refers to; the order is campaign_replies()'s."""

    channel: str
    sender: str
    wamid: str | None
    click: bool


class Letter(NamedTuple):
    """A dead letter of the stage `split`; `payload` is JSON text. Not `again`: trying once more would be in vain."""

    source: str
    wamid: str | None
    payload: str
    error: str
    again: bool


class Dropped(NamedTuple):
    """How many statuses of each word were given up; `waiting`: some stay parked."""

    counts: dict[str, int]
    waiting: bool


class InboxStore:
    def __init__(
        self,
        pool: asyncpg.Pool[asyncpg.Record],
        *,
        first_retry: datetime.timedelta = datetime.timedelta(minutes=2),
    ) -> None:
        """`first_retry`: when a dead letter is tried again."""
        self._pool = pool
        self._first_retry = first_retry

    CLAIM: Final = """
        with due as (
          select id from waemitter.webhook_logs where available_at is not null and available_at <= clock_timestamp()
            and (source = 'chatwoot') = $3
          order by available_at, id limit $1 for no key update skip locked)
        update waemitter.webhook_logs l set available_at = clock_timestamp() + $2, attempts = l.attempts + 1
        from due where l.id = due.id returning l.id, l.source, l.body, l.attempts
    """

    async def claim(
        self, limit: int, *, lease: datetime.timedelta, of_chatwoot: bool = False
    ) -> list[Webhook]:
        """Lease webhooks that are due: Chatwoot's, or the others."""
        with outages():
            records = await self._pool.fetch(self.CLAIM, limit, lease, of_chatwoot)
        return [Webhook(*record) for record in sorted(records, key=itemgetter(0))]

    RENEW: Final = """
        with held as materialized (
          select id from waemitter.webhook_logs where id = any ($1) and available_at is not null
          order by id for no key update skip locked)
        update waemitter.webhook_logs l set available_at = clock_timestamp() + $2 from held where l.id = held.id
    """

    async def renew(self, ids: Sequence[int], *, lease: datetime.timedelta) -> None:
        """Prolong the leases of webhooks that are still worked on; those that are done just now are left alone."""
        with outages():
            await self._pool.execute(self.RENEW, ids, lease)

    NEXT_DUE: Final = """
        select extract(epoch from min(available_at) - clock_timestamp())::float8 from waemitter.webhook_logs
        where available_at is not null and (source = 'chatwoot') = $1
    """

    async def next_due(self, *, of_chatwoot: bool = False) -> float | None:
        """Seconds until a webhook is to be worked on; None when none waits."""
        with outages():
            seconds: float | None = await self._pool.fetchval(self.NEXT_DUE, of_chatwoot)
        return seconds

    GIVE_BACK: Final = """
        with mine as materialized (
          select l.id from waemitter.webhook_logs l
          join unnest($1::bigint[], $2::smallint[]) as g (id, attempts) on l.id = g.id and l.attempts = g.attempts
          where l.available_at is not null order by l.id for no key update of l)
        update waemitter.webhook_logs l set available_at = clock_timestamp() from mine where l.id = mine.id
    """

    async def give_back(self, webhooks: Mapping[int, int]) -> None:
        """End our leases: ids, with the attempt that each was leased as; one that another daemon has by now stays its own."""
        with outages():
            await self._pool.execute(self.GIVE_BACK, list(webhooks), list(webhooks.values()))

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """What a webhook causes, and that it is done, are one transaction. Raises DatabaseUnreachable."""
        with outages():
            async with self._pool.acquire() as connection, connection.transaction():
                yield connection

    @asynccontextmanager
    async def savepoint(self, connection: Connection) -> AsyncIterator[None]:
        """What fails within is undone, and nothing else of the transaction. Raises DatabaseUnreachable."""
        with outages():
            async with connection.transaction():
                yield

    FRESH: Final = """
        with given as (
          select g.id, g.field, g.scope, min(g.n) as n
          from unnest($1::text[], $2::text[], $3::text[]) with ordinality as g (id, field, scope, n) group by 1, 2, 3),
        kept as (
          insert into waemitter.processed_webhook_messages (whatsapp_message_id, field, scope)
          select id, field, scope from given order by id, field, scope
          on conflict do nothing returning whatsapp_message_id as id, field, scope)
        select (g.n - 1)::integer from given g join kept k using (id, field, scope) order by g.n
    """

    async def fresh(self, connection: Connection, keys: Sequence[Key]) -> list[int]:
        """Remember keys; returns the places (from 0) of those that were not known, each key's first."""
        if not keys:
            return []
        columns = [list(column) for column in zip(*keys, strict=True)]
        return [record[0] for record in await connection.fetch(self.FRESH, *columns)]

    STRANGE: Final = """
        select n from unnest($1::text[]) as g (n)
        where not exists (select from waemitter.channels c where c.phone_number_id = n and c.kind = 'whatsapp')
    """

    async def strange(self, connection: Connection, numbers: Sequence[str]) -> set[str]:
        """Those of these phone_number_ids that no channel has."""
        return {record[0] for record in await connection.fetch(self.STRANGE, numbers)}

    RECEIVE: Final = """
        select n - 1 as n, result, message_id, conversation_id, contact_id, channel
        from waemitter.receive_messages(numbers => $1, wamids => $2, types => $3, wa_ids => $4, user_ids => $5,
          group_ids => $6, names => $7, usernames => $8, times => $9, opens => $10, payloads => $11, contacts => $12,
          webhook_ids => $13)
        order by n
    """

    async def receive(
        self, connection: Connection, messages: Sequence[Inbound]
    ) -> Sequence[Received]:
        """Keep messages with their contacts and conversations, each once; one result for each, in their order."""
        if not messages:
            return ()
        columns = [list(column) for column in zip(*messages, strict=True)]
        return [Received(*record) for record in await connection.fetch(self.RECEIVE, *columns)]

    FOLLOW: Final = """
        select waemitter.follow_contact(channel => $1, contact_id => $2, former => $3, wa_id => $4, user_id => $5, at => $6)
    """

    async def follow(self, connection: Connection, moves: Sequence[Moved]) -> None:
        for moved in moves:
            await connection.execute(self.FOLLOW, *moved)

    COUNT_ANSWERS: Final = """
        select waemitter.campaign_replies(channels => $1, recipients => $2, wamids => $3, clicks => $4)
    """

    async def count_answers(self, connection: Connection, answers: Sequence[Answer]) -> None:
        """Count messages for the campaigns that they answer."""
        if answers:
            columns = [list(column) for column in zip(*answers, strict=True)]
            await connection.execute(self.COUNT_ANSWERS, *columns)

    BURY: Final = """
        insert into waemitter.dead_letters (direction, source, stage, whatsapp_message_id, payload, error, next_retry_at)
        select 'inbound', source, 'split', wamid, payload::jsonb, error, case when again then clock_timestamp() + $6 end
        from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::boolean[])
          as l (source, wamid, payload, error, again)
    """

    async def bury(self, connection: Connection, letters: Sequence[Letter]) -> None:
        if letters:
            columns = [list(column) for column in zip(*letters, strict=True)]
            await connection.execute(self.BURY, *columns, self._first_retry)

    TAKE_PARKED: Final = """
        select message_id, token, wamid, word, at, code, reason, category, billable
        from waemitter.take_parked_statuses(max_rows => $1)
    """

    async def take_parked(self, connection: Connection, *, limit: int) -> list[StatusUpdate]:
        """Parked statuses whose message is known by now, to be applied in the same transaction."""
        return [StatusUpdate(*record) for record in await connection.fetch(self.TAKE_PARKED, limit)]

    DROP_PARKED: Final = """
        select status, n, waiting from waemitter.drop_parked_statuses(patience => $1, max_rows => $2)
    """

    async def drop_parked(self, *, patience: datetime.timedelta, limit: int) -> Dropped:
        """Give up what has waited for `patience`. Raises DatabaseUnreachable."""
        with outages():
            *records, last = await self._pool.fetch(self.DROP_PARKED, patience, limit)
        return Dropped({status: n for status, n, _ in records}, last["waiting"])

    DONE: Final = """
        update waemitter.webhook_logs set available_at = null, processed_at = clock_timestamp(), error = null
        where id = any ($1) and available_at is not null
    """

    async def done(self, connection: Connection, ids: Sequence[int]) -> None:
        await connection.execute(self.DONE, ids)

    NOTE_RECEIVING: Final = "select waemitter.note_receiving(away => $1)"

    async def note_receiving(self, *, away: datetime.timedelta | None) -> None:
        """Tell that webhooks are received; `away`: for how long, until now, they were not. Raises DatabaseUnreachable."""
        with outages():
            await self._pool.execute(self.NOTE_RECEIVING, away)

    FAILED: Final = """
        update waemitter.webhook_logs
        set available_at = case when attempts < $3 then clock_timestamp() + $4 end, error = $2
        where id = $1 and available_at is not null
    """

    async def failed(
        self, webhook_id: int, *, error: str, attempts: int, delay: datetime.timedelta
    ) -> None:
        """Try it again after `delay`, until it had its `attempts`; then it stays, with its error, for a replay."""
        with outages():
            await self._pool.execute(self.FAILED, webhook_id, error, attempts, delay)
