"""Where in Chatwoot a row goes, and by which attempts it may have gone already. Functions of schema.sql do the work."""

from __future__ import annotations

from typing import Final, NamedTuple

import asyncpg

from waemitter.db.pool import outages


class Target(NamedTuple):
    """Our conversation, its number in Chatwoot if it has one there, and its contact; `identifier` is unique to him."""

    conversation_id: int
    chatwoot_id: int | None
    identifier: str | None
    phone: str | None
    name: str | None


class PlaceStore:
    def __init__(self, pool: asyncpg.Pool[asyncpg.Record]) -> None:
        self._pool = pool

    TARGET: Final = """
        select conversation_id, chatwoot_id, identifier, phone, name
        from waemitter.chatwoot_target(channel => $1, recipient => $2)
    """

    async def target(self, channel: str, recipient: str) -> Target | None:
        """None: there is no such conversation, and nobody with that address to begin one with."""
        with outages():
            record = await self._pool.fetchrow(self.TARGET, channel, recipient)
        return None if record is None else Target(*record)

    LINK: Final = """
        insert into waemitter.chatwoot_conversations (channel, chatwoot_id, conversation_id, status)
        select $1, $2, id, 'open' from waemitter.conversations where id = $3 on conflict do nothing
    """

    async def link(self, channel: str, chatwoot_id: int, conversation_id: int) -> None:
        """Remember which of Chatwoot's conversations is ours."""
        with outages():
            await self._pool.execute(self.LINK, channel, chatwoot_id, conversation_id)

    UNLINK: Final = (
        "delete from waemitter.chatwoot_conversations where channel = $1 and chatwoot_id = $2"
    )

    async def unlink(self, channel: str, chatwoot_id: int) -> None:
        """Chatwoot has it no more."""
        with outages():
            await self._pool.execute(self.UNLINK, channel, chatwoot_id)

    TOKENS: Final = "select token from waemitter.outbox_attempts where message_id = $1"

    async def tokens(self, message_id: int) -> frozenset[int]:
        """Of the attempts before the present one."""
        with outages():
            return frozenset(
                record["token"] for record in await self._pool.fetch(self.TOKENS, message_id)
            )
