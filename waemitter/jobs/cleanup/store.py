"""Deleting what is old, in batches; functions of schema.sql do it."""

from __future__ import annotations

import datetime
from typing import Final

import asyncpg

from waemitter.db.pool import outages


class CleanupStore:
    def __init__(self, pool: asyncpg.Pool[asyncpg.Record]) -> None:
        self._pool = pool

    PURGE_OUTBOX: Final = """
        select deleted, behind from waemitter.purge_outbox(older_than => $1, max_rows => $2, after => $3)
    """

    async def purge_outbox(
        self, older_than: datetime.timedelta, limit: int, after: int
    ) -> tuple[int, int | None]:
        """How many messages went, and behind which id to go on; None when the rest is too young."""
        with outages():
            record = await self._pool.fetchrow(self.PURGE_OUTBOX, older_than, limit, after)
        assert record is not None  # noqa: S101 a function with out parameters returns a row
        return record["deleted"], record["behind"]

    PURGE_INBOUND: Final = (
        "select waemitter.purge_inbound_messages(older_than => $1, max_rows => $2)"
    )
    PURGE_TRANSITIONS: Final = (
        "select waemitter.purge_state_transitions(older_than => $1, max_rows => $2)"
    )
    PURGE_WEBHOOKS: Final = "select waemitter.purge_webhook_logs(older_than => $1, max_rows => $2)"
    BLANK_WEBHOOKS: Final = "select waemitter.blank_webhook_logs(older_than => $1, max_rows => $2)"
    PURGE_KEYS: Final = "select waemitter.purge_webhook_keys(older_than => $1, max_rows => $2)"
    PURGE_LETTERS: Final = "select waemitter.purge_dead_letters(older_than => $1, max_rows => $2)"
    PURGE_SESSIONS: Final = "select waemitter.purge_sessions(older_than => $1, max_rows => $2)"
    PURGE_BUFFERS: Final = "select waemitter.purge_buffers(older_than => $1, max_rows => $2)"
    PURGE_RUNS: Final = "select waemitter.purge_job_runs(older_than => $1, max_rows => $2)"
    PURGE_ALERTS: Final = "select waemitter.purge_alerts(older_than => $1, max_rows => $2)"
    PURGE_CONTEXTS: Final = (
        "select waemitter.purge_agent_contexts(older_than => $1, max_rows => $2)"
    )
    PURGE_ACCOUNTS: Final = (
        "select waemitter.purge_agent_sessions(older_than => $1, max_rows => $2)"
    )
    PURGE_AUDIT: Final = "select waemitter.purge_audit_log(older_than => $1, max_rows => $2)"
    PURGE_EVENTS: Final = "select waemitter.purge_events(older_than => $1, max_rows => $2)"

    async def purge(self, statement: str, older_than: datetime.timedelta, limit: int) -> int:
        """One batch of a PURGE_… (or BLANK_…) statement above; how many rows went."""
        with outages():
            deleted: int = await self._pool.fetchval(statement, older_than, limit)
        return deleted

    FREE_STUCK: Final = "select waemitter.cleanup_stuck_webhook_conversations()"

    async def free_stuck(self) -> int:
        """Free conversations whose holder is gone; how many."""
        with outages():
            freed: int = await self._pool.fetchval(self.FREE_STUCK)
        return freed

    DUE_BUFFERS: Final = """
        select count(*) from waemitter.message_buffer
        where closes_at <= clock_timestamp() and not waits and waemitter.flag_enabled('buffer_processing')
    """

    async def due_buffers(self) -> int:
        """Windows that are to be worked on now."""
        with outages():
            due: int = await self._pool.fetchval(self.DUE_BUFFERS)
        return due

    NOW: Final = "select clock_timestamp()"

    async def now(self) -> datetime.datetime:
        with outages():
            now: datetime.datetime = await self._pool.fetchval(self.NOW)
        return now

    REFRESH_ANALYTICS: Final = "select waemitter.refresh_analytics()"

    async def refresh_analytics(self, *, within: float) -> int:
        """Count the last hours anew; how many figures there are. `within` seconds, as no statement of a message may take."""
        with outages():
            async with self._pool.acquire() as connection, connection.transaction():
                await connection.execute(self.PATIENCE, f"{within * 1000:.0f}")
                figures: int = await connection.fetchval(self.REFRESH_ANALYTICS, timeout=within)
        return figures

    PATIENCE: Final = "select set_config('statement_timeout', $1, true)"
