"""A fake Chatwoot beside a real database: its webhooks are split, rows go there, by hand and in one process."""

from __future__ import annotations

import datetime
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import aiohttp
import orjson

from tests.chatwoot import ACCOUNT, INBOX, TOKEN, Chatwoot, chatwoot
from tests.outbox_rows import Outbox
from tests.turns_bench import Script, Talk, talking
from waemitter.chatwoot.client import ChatwootClient
from waemitter.inbox.desk.effects import DeskEffects, Inboxes, Terms
from waemitter.inbox.desk.reconciler import DeskReconciler
from waemitter.inbox.desk.splitter import DeskSplitter
from waemitter.inbox.desk.store import DeskStore
from waemitter.inbox.journal.records import Entry
from waemitter.outbox.carriers.chatwoot.carrier import ChatwootCarrier
from waemitter.outbox.carriers.chatwoot.files import Fetched
from waemitter.outbox.carriers.chatwoot.store import PlaceStore
from waemitter.outbox.message import Attempt
from waemitter.outbox.retry import Decision, Patience, decide
from waemitter.outbox.store import OutboxStore, Settlement
from waemitter.whatsapp.client import open_session

DESK: Final = "desk"
PATIENCE: Final = Patience(max_attempts=5, delays=(0.0,), grace=0.0)


@dataclass
class Desk:
    talk: Talk
    fake: Chatwoot
    splitter: DeskSplitter
    reconciler: DeskReconciler
    carrier: ChatwootCarrier
    outbox: Outbox

    async def heard(self, *documents: dict[str, Any]) -> None:
        """Webhooks are journalled, and worked off; without documents, those that the fake has told since."""
        given = documents or tuple(self.fake.told)
        if not documents:
            self.fake.told.clear()
        await self.journal([orjson.dumps(each) for each in given])
        await self.split()

    async def journal(self, bodies: Any) -> None:
        await self.talk.bench.journalled.append([Entry("chatwoot", body, "{}") for body in bodies])

    async def split(self) -> None:
        while rows := (await self.splitter.claim(1)).rows:
            for row in rows:
                await self.splitter.work(row)

    async def deliver(self) -> list[Decision]:
        """Send what is due on the desk, as a sender would; what was decided of each."""
        found: list[Decision] = []
        while attempts := (await self.outbox.claim(channel=DESK)).attempts:
            found += [await self.attempt(attempt) for attempt in attempts]
        return found

    async def attempt(self, attempt: Attempt) -> Decision:
        body = self.carrier.render(attempt)
        answer, _ = await self.carrier.send(attempt, body)
        decision = decide(
            answer, attempt=attempt.number, max_attempts=None, patience=PATIENCE, jitter=1.0
        )
        await self.outbox.store.settle([Settlement(attempt.id, attempt.token, decision)])
        return decision

    async def value(self, query: str, *arguments: object) -> Any:
        return await self.talk.pool.fetchval(query, *arguments)

    async def to_customer(self) -> list[tuple[str, str | None]]:
        """Rows of numbers: recipient and text, or link."""
        rows = await self.talk.pool.fetch(
            "select recipient, coalesce(payload #>> '{text,body}', payload #>> '{image,link}') as said"
            " from waemitter.outbox_messages where channel = 'default' order by id"
        )
        return [tuple(row) for row in rows]


def client_of(session: aiohttp.ClientSession, url: str) -> ChatwootClient:
    return ChatwootClient(
        session,
        base_url=url,
        account_id=ACCOUNT,
        api_token=TOKEN,
        total_timeout=5,
        connect_timeout=2,
    )


async def desk_channel(outbox: OutboxStore) -> None:
    await outbox.ensure_channel(
        DESK,
        kind="chatwoot",
        phone_number_id=None,
        messages_per_second=0,
        pair_seconds=0,
        pair_burst=None,
    )


@asynccontextmanager
async def desk_at(
    dsn: str, script: Script | None = None, *, api: bool = True, assigns: bool = True, **policy: Any
) -> AsyncIterator[Desk]:
    """Turns are committed with a desk; `api`: see tests.chatwoot."""
    async with (
        talking(dsn, script, desks=True, **policy) as talk,
        chatwoot(api=api) as fake,
        open_session(connections=10) as session,
    ):
        store, outbox = DeskStore(talk.pool), OutboxStore(talk.pool)
        await desk_channel(outbox)
        inboxes, client = Inboxes(ACCOUNT, {INBOX: DESK}), client_of(session, fake.url)
        events = talk.bench.observed.events
        effects = DeskEffects(
            store,
            inboxes,
            Terms(datetime.timedelta(hours=4), assigns=assigns),
            gatherer=talk.bench.splitter._effects._gatherer,  # type: ignore[arg-type] # talking() sets it
            listener=None,
            events=events,
        )
        made: Desk

        async def journal(bodies: Any) -> None:
            await made.journal(bodies)

        files = Fetched(session, {}, base_url=fake.url, timeout=5)
        made = Desk(
            talk,
            fake,
            DeskSplitter(talk.bench.inbox, effects, events=events, clock=lambda: 0.0),
            DeskReconciler(store, client, inboxes, journal=journal, clock=lambda: 0.0),
            ChatwootCarrier(DESK, PlaceStore(talk.pool), client, inbox_id=INBOX, files=files),
            Outbox(talk.pool, outbox),
        )
        yield made
