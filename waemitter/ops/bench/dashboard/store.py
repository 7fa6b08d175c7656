"""What the dashboard's bench asks of its own Postgres."""

from __future__ import annotations

from typing import Final

import asyncpg


class ViewStore:
    def __init__(self, pool: asyncpg.Pool[asyncpg.Record]) -> None:
        self._pool = pool

    ANALYZE: Final = "vacuum analyze waemitter.outbox_messages"

    async def analyze(self) -> None:
        """As autovacuum would have done after so many rows."""
        await self._pool.execute(self.ANALYZE)

    GRADE: Final = """
        with graded as (update waemitter.channels set quality = $1 where name = 'default' returning name)
        select pg_notify('waemitter_dashboard', '') from graded
    """

    async def grade(self, quality: str) -> None:
        """Change what a page shows, and say so, as an operator's action on another daemon does."""
        await self._pool.execute(self.GRADE, quality)
