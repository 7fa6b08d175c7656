"""A shop that is a client of the API, over a real outbox."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import orjson

from tests.outbox_rows import Outbox, outbox_at
from tests.serving import Site, authenticator, serving
from waemitter.errors import NotFound
from waemitter.inbox.conversations.store import ConversationStore
from waemitter.jobs.store import JobRow, JobStore, Run
from waemitter.outbox.campaigns.store import CampaignStore
from waemitter.outbox.intake.store import IntakeStore
from waemitter.outbox.media.library import MediaLibrary
from waemitter.outbox.media.store import MediaStore
from waemitter.turns.replies.store import ReplyStore
from waemitter.web.api.assembly import outbox_api
from waemitter.web.api.jobs import SHORTCUTS
from waemitter.web.store import AuditStore


class Jobs:
    """Jobs without a daemon to run them: each ends at once, or as `run_of` says."""

    def __init__(self, store: JobStore) -> None:
        self._store = store
        self.run_of: Run | None = None

    async def list(self) -> list[JobRow]:
        return await self._store.list()

    async def run(self, name: str, *, within: float) -> Run:
        del within
        if self.run_of is not None:
            return self.run_of
        if name not in SHORTCUTS:
            raise NotFound(name)
        summary = '{"success": true, "processed": 0, "durationMs": 1}'
        return Run(1, name, "succeeded", summary, None)


@dataclass
class Shop:
    """A client of the API, beside the outbox itself."""

    site: Site
    outbox: Outbox
    jobs: Jobs
    rings: list[int] = field(default_factory=list)
    now: float = 0.0

    async def call(
        self, method: str, path: str, body: Any = None, **headers: str
    ) -> tuple[int, Any]:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        async with self.site.client.request(method, path, json=body, headers=named) as answer:
            return answer.status, orjson.loads(await answer.read())

    async def count(self) -> Any:
        return await self.outbox.pool.fetchval("select count(*) from waemitter.outbox_messages")


@asynccontextmanager
async def shop_at(
    dsn: str,
    *,
    keys: dict[str, list[str]] | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> AsyncIterator[Shop]:
    async with outbox_at(dsn) as outbox:
        rings = list[int]()
        jobs = Jobs(JobStore(outbox.pool))
        made: Shop
        api = outbox_api(
            outbox=outbox.store,
            intake=IntakeStore(outbox.pool),
            campaigns=CampaignStore(outbox.pool),
            media=MediaLibrary(MediaStore(outbox.pool), {}),
            jobs=jobs,
            replies=ReplyStore(
                outbox.pool, session_ttl=timedelta(days=1), takeover=timedelta(hours=4)
            ),
            conversations=ConversationStore(outbox.pool),
            takeover=timedelta(hours=4),
            ring=lambda: rings.append(1),
            auth=authenticator(keys, clock=clock),
            audit=AuditStore(outbox.pool),
            clock=lambda: made.now,
        )
        async with serving(api=api) as site:
            made = Shop(site, outbox, jobs, rings)
            yield made
