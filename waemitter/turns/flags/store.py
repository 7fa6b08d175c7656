"""The switches of the table feature_flags, as an operator sees and turns them."""

from __future__ import annotations

from typing import Any, Final

import asyncpg

from waemitter.db.pool import outages
from waemitter.errors import NotFound


class FlagStore:
    def __init__(self, pool: asyncpg.Pool[asyncpg.Record]) -> None:
        self._pool = pool

    LIST: Final = """
        select flag_name, is_enabled, rollout_percent, description, updated_at from waemitter.feature_flags order by flag_name
    """

    async def list(self) -> list[dict[str, Any]]:
        with outages():
            return [dict(record) for record in await self._pool.fetch(self.LIST)]

    TURN: Final = """
        update waemitter.feature_flags
        set is_enabled = $2, rollout_percent = coalesce($3, rollout_percent), updated_at = clock_timestamp()
        where flag_name = $1 returning flag_name, is_enabled, rollout_percent, description, updated_at
    """

    async def turn(
        self, name: str, *, enabled: bool, rollout_percent: int | None = None
    ) -> dict[str, Any]:
        """Turn it on or off, for a share of the contacts if given; returns its row. Raises NotFound."""
        with outages():
            record = await self._pool.fetchrow(self.TURN, name, enabled, rollout_percent)
        if record is None:
            raise NotFound(f"there is no flag {name}; `waemitter flags list` names them")
        return dict(record)
