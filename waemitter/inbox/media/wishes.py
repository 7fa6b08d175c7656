"""A message with a file is kept with the wish to fetch it."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from waemitter.inbox.media.store import InboundMediaStore, Wanted
from waemitter.inbox.store import Connection
from waemitter.whatsapp.inbound_media import attached
from waemitter.whatsapp.webhooks import Message


class Wishes:
    def __init__(self, store: InboundMediaStore, *, wanted: Callable[[], None]) -> None:
        """`wanted()`: there is something to fetch."""
        self._store = store
        self._wanted = wanted

    async def note(
        self, connection: Connection, messages: Iterable[tuple[str, int, Message]]
    ) -> Callable[[], None] | None:
        """`messages`: new ones, each with its channel and row. Returns what to tell once it is committed."""
        files = [
            Wanted(message_id, channel, message.wamid, *file)
            for channel, message_id, message in messages
            if (file := attached(message.raw))
        ]
        if not files:
            return None
        await self._store.want(connection, files)
        return self._wanted
