"""A splitter over a real database, and what the tests of the inbox ask of it."""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import asyncpg
import orjson

from tests.observing import Observed, observing
from waemitter.inbox.effects import Effects, FieldHandler
from waemitter.inbox.failures import Failures
from waemitter.inbox.fields.actions import FieldActions, OptOuts, Rules
from waemitter.inbox.fields.store import FieldStore
from waemitter.inbox.journal.records import Entry
from waemitter.inbox.journal.store import JournalStore
from waemitter.inbox.media.store import InboundMediaStore
from waemitter.inbox.media.wishes import Wishes
from waemitter.inbox.splitter import Splitter
from waemitter.inbox.store import InboxStore
from waemitter.outbox.channels.store import ChannelStore
from waemitter.outbox.letters.store import LetterStore
from waemitter.outbox.message import Echo
from waemitter.outbox.retry import Patience
from waemitter.outbox.store import OutboxStore

NUMBER = "330900000000007"
"""The phone_number_id of most of tests/payloads."""

LEASE = datetime.timedelta(seconds=60)


@dataclass
class Bench:
    """A splitter over a real database."""

    pool: asyncpg.Pool[asyncpg.Record]
    inbox: InboxStore
    journalled: JournalStore
    splitter: Splitter
    observed: Observed
    freed: list[bool]
    parked: list[bool]
    wanted: list[bool] = field(default_factory=list)

    async def message(self, *, recipient: str = "+14155550123") -> Echo:
        await self.pool.execute("select waemitter.send_text($1, 'hello')", recipient)
        claimed = await OutboxStore(self.pool).claim(
            "default",
            limit=1,
            lease=LEASE,
            horizon=datetime.timedelta(seconds=0.2),
            grace=LEASE,
            policy="retry",
            retries=5,
        )
        (attempt,) = claimed.attempts
        return Echo(attempt.id, attempt.token, "order-17")

    async def journal(self, *bodies: bytes) -> None:
        await self.journalled.append([Entry("whatsapp", body, "{}") for body in bodies])

    async def split(self) -> None:
        while rows := (await self.splitter.claim(1)).rows:
            for row in rows:
                await self.splitter.work(row)

    async def status_of(self, message_id: int) -> str:
        status: str = await self.pool.fetchval(
            "select status from waemitter.outbox_messages where id = $1", message_id
        )
        return status

    async def count(self, table: str) -> int:
        count: int = await self.pool.fetchval(f"select count(*) from waemitter.{table}")
        return count

    async def letters(self) -> list[asyncpg.Record]:
        letters: list[asyncpg.Record] = await self.pool.fetch(
            "select * from waemitter.dead_letters order by id"
        )
        return letters

    async def unprocessed(self) -> int:
        count: int = await self.pool.fetchval(
            "select count(*) from waemitter.webhook_logs where processed_at is null"
        )
        return count


@asynccontextmanager
async def opened(
    dsn: str,
    fields: Mapping[str, FieldHandler] = MappingProxyType({}),
    *,
    rules: Rules | None = None,
    media: bool = False,
) -> AsyncIterator[Bench]:
    """With `rules`, what Meta tells and what customers wish is heeded, in place of `fields`; with `media`, files are wanted."""
    freed: list[bool] = []
    parked: list[bool] = []
    wanted: list[bool] = []
    async with asyncpg.create_pool(dsn, min_size=1, max_size=12) as pool:
        await pool.execute("update waemitter.channels set phone_number_id = $1", NUMBER)
        with observing() as observed:
            inbox = InboxStore(pool)
            failures = Failures(
                LetterStore(pool),
                ChannelStore(pool),
                events=observed.events,
                patience=Patience(max_attempts=5, delays=(60.0, 120.0), grace=60),
                jitter=lambda: 1.0,
                requeued=lambda: None,
            )
            knowledge = FieldStore()
            listener = None
            if rules is not None:
                fields = FieldActions(
                    knowledge, rules, events=observed.events, released=lambda: freed.append(True)
                ).handlers
                listener = OptOuts(knowledge, rules, events=observed.events).hear
            wishes = Wishes(InboundMediaStore(pool), wanted=lambda: wanted.append(True))
            splitter = Splitter(
                inbox,
                Effects(
                    inbox,
                    OutboxStore(pool),
                    failures,
                    fields=fields,
                    listener=listener,
                    media=wishes if media else None,
                ),
                learn=knowledge.learn,
                events=observed.events,
                lanes_freed=lambda: freed.append(True),
                parked=lambda: parked.append(True),
                reserve=OutboxStore(pool).reserve_inbound,
                clock=lambda: 0.0,
            )
            yield Bench(pool, inbox, JournalStore(pool), splitter, observed, freed, parked, wanted)


def said(wamid: str, *, sender: str | None = "14155550123", **more: Any) -> dict[str, Any]:
    """A message as Meta brings it."""
    text = {"id": wamid, "type": "text", "timestamp": "1793700441", "text": {"body": "hello"}}
    return {**text, **({"from": sender} if sender else {}), **more}


def told(*messages: dict[str, Any], number: str = NUMBER, **value: Any) -> bytes:
    """A webhook with messages to a number."""
    metadata = {"phone_number_id": number, "display_phone_number": "15550104477"}
    return webhook(metadata=metadata, messages=list(messages), **value)


def webhook(*statuses: object, **value: object) -> bytes:
    change = {
        "field": "messages",
        "value": {**({"statuses": list(statuses)} if statuses else {}), **value},
    }
    return orjson.dumps(
        {"object": "whatsapp_business_account", "entry": [{"id": "1", "changes": [change]}]}
    )


def status(word: str, echo: Echo | None, **more: object) -> dict[str, object]:
    wamid = f"wamid.{hashlib.sha256(str(echo).encode()).hexdigest()}"
    told = {"id": wamid, "status": word, "timestamp": "1793700441", "recipient_id": "14155550123"}
    if echo is not None:
        told["biz_opaque_callback_data"] = echo.text()
    return {**told, **more}
