"""Opt-outs and windows in Postgres."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Literal, TypeAlias

import asyncpg

from waemitter.db.pool import outages
from waemitter.outbox.permissions.window import WindowPolicy

Scope: TypeAlias = Literal["all", "marketing"]


class PermissionStore:
    def __init__(self, pool: asyncpg.Pool[asyncpg.Record]) -> None:
        self._pool = pool

    SET_WINDOW: Final = """
        update waemitter.channels set window_policy = $2 where name = $1 and window_policy <> $2
    """

    async def set_window(self, channel: str, policy: WindowPolicy) -> None:
        """Where the functions that enqueue see it."""
        with outages():
            await self._pool.execute(self.SET_WINDOW, channel, policy)

    OUTSIDE_WINDOW: Final = "select waemitter.messages_outside_window(ids => $1)"

    async def outside_window(self, message_ids: Sequence[int]) -> set[int]:
        """Which of these messages are free-form, to people who have not written within 24 hours."""
        with outages():
            found: list[int] = await self._pool.fetchval(self.OUTSIDE_WINDOW, message_ids)
        return set(found)

    LIST: Final = """
        select id, address, channel, scope, reason, source, created_at from waemitter.suppressions
        where ($1::text is null or address = waemitter.address($1)) and ($2::text is null or channel = $2)
          and ($3::text is null or reason = $3) and ($4::bigint is null or id < $4)
        order by id desc limit $5
    """

    async def list(
        self,
        *,
        recipient: str | None,
        channel: str | None,
        reason: str | None,
        limit: int,
        before: int | None = None,
    ) -> list[dict[str, Any]]:
        """The newest first."""
        with outages():
            records = await self._pool.fetch(self.LIST, recipient, channel, reason, before, limit)
        return [dict(record) for record in records]

    ADD: Final = """
        select waemitter.suppress(recipient => $1, scope => $2, channel => $3, reason => $4, source => $5)
    """

    async def add(
        self, recipient: str, *, scope: Scope, channel: str | None, reason: str, source: str
    ) -> bool:
        """True when the recipient was not on that list yet. Raises KeyError for a channel that there is not."""
        try:
            with outages():
                added: bool = await self._pool.fetchval(
                    self.ADD, recipient, scope, channel, reason, source
                )
        except asyncpg.ForeignKeyViolationError as error:
            raise KeyError(channel) from error
        return added

    REMOVE: Final = "select waemitter.unsuppress(recipient => $1, scope => $2, channel => $3)"

    async def remove(self, recipient: str, *, scope: Scope | None, channel: str | None) -> int:
        """How many entries were removed; a channel of None is any."""
        with outages():
            removed: int = await self._pool.fetchval(self.REMOVE, recipient, scope, channel)
        return removed
