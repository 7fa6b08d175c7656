"""Retries of dead letters in Postgres; functions of schema.sql decide."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import asyncpg

from waemitter.db.pool import outages


class DueLetter(NamedTuple):
    """A letter whose retry begins, counted already; `payload` is JSON text. `spent`: it is abandoned instead."""

    id: int
    source: str
    stage: str
    channel: str | None
    whatsapp_message_id: str | None
    payload: str
    retry_count: int
    correlation_id: str | None
    spent: bool


class DueLetterStore:
    def __init__(self, pool: asyncpg.Pool[asyncpg.Record]) -> None:
        self._pool = pool

    CLAIM: Final = """
        select id, source, stage, channel, whatsapp_message_id, payload, retry_count, correlation_id, spent
        from waemitter.claim_letters(max_rows => $1, max_retries => $2, delays => $3) order by id
    """

    async def claim(
        self, limit: int, *, max_retries: int, delays: Sequence[float]
    ) -> list[DueLetter]:
        """`delays` in seconds: the wait before each retry."""
        with outages():
            records = await self._pool.fetch(self.CLAIM, limit, max_retries, list(delays))
        return [DueLetter(*record) for record in records]

    SETTLE: Final = "select waemitter.settle_letter(id => $1, error => $2, max_retries => $3)"

    async def settle(self, letter_id: int, *, error: str | None, max_retries: int) -> None:
        """Tell what became of a retry: without an error it is resolved."""
        with outages():
            await self._pool.execute(self.SETTLE, letter_id, error, max_retries)
