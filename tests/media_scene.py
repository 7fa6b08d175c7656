"""Files of customers: a simulated platform that has them, and who fetches them from there."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import asyncpg

from tests.inbox_bench import NUMBER, Bench, opened, said, told
from waemitter.inbox.media.fetcher import Fetcher
from waemitter.inbox.media.retention import MediaRetention
from waemitter.inbox.media.shelf import PARTIAL, Directory, Shelf
from waemitter.inbox.media.store import InboundMediaStore
from waemitter.simulator import Options, Simulator
from waemitter.whatsapp.client import GraphClient, open_session

JPEG = b"\xff\xd8\xff" + bytes(range(256)) * 2000
SHA256 = hashlib.sha256(JPEG).hexdigest()
DAYS = timedelta(days=30)


@dataclass
class Scene:
    bench: Bench
    meta: Simulator
    client: GraphClient
    store: InboundMediaStore
    shelf: Shelf
    root: Path

    @property
    def pool(self) -> asyncpg.Pool[asyncpg.Record]:
        return self.bench.pool

    def fetcher(self, *, most_bytes: int = 1 << 20, shelf: Shelf | None = None) -> Fetcher:
        return Fetcher(
            self.store,
            shelf or self.shelf,
            {"default": self.client},
            staging=self.root / PARTIAL,
            most_bytes=most_bytes,
            events=self.bench.observed.events,
            jitter=lambda: 1.0,
            clock=lambda: 0.0,
        )

    def retention(self) -> MediaRetention:
        return MediaRetention(
            self.store,
            self.shelf,
            staging=self.root / PARTIAL,
            keep=DAYS.total_seconds(),
            events=self.bench.observed.events,
            jitter=lambda: 1.0,
        )

    async def arrives(self, wamid: str, content: bytes = JPEG, **part: Any) -> str:
        """A customer's picture; returns its media id."""
        media = self.meta._world.media.add("image/jpeg", content)
        image = {"id": media.id, "mime_type": "image/jpeg", **part}
        await self.bench.journal(told(said(wamid, type="image", image=image)))
        await self.bench.split()
        return media.id

    async def fetch(self, fetcher: Fetcher | None = None) -> None:
        fetcher = fetcher or self.fetcher()
        for row in (await fetcher.claim(4)).rows:
            await fetcher.work(row)

    async def due_now(self) -> None:
        await self.pool.execute(
            "update waemitter.inbound_media set available_at = now() where available_at is not null"
        )

    async def rows(self) -> list[asyncpg.Record]:
        found: list[asyncpg.Record] = await self.pool.fetch(
            "select * from waemitter.inbound_media order by id"
        )
        return found

    def files(self) -> list[Path]:
        return sorted(each for each in self.root.rglob("*") if each.is_file())


@asynccontextmanager
async def fetching(dsn: str, tmp_path: Path) -> AsyncIterator[Scene]:
    shelf = Directory(tmp_path / "media")
    shelf.prepare()
    async with (
        Simulator(Options(phone_number_ids=(NUMBER,), access_token="token")) as meta,
        opened(dsn, media=True) as bench,
        open_session(connections=4) as session,
    ):
        client = GraphClient(
            session,
            base_url=meta.base_url,
            phone_number_id=NUMBER,
            access_token="token",
            total_timeout=5,
            connect_timeout=2,
        )
        store = InboundMediaStore(bench.pool)
        yield Scene(bench, meta, client, store, shelf, tmp_path / "media")
