"""A message with a file is kept with the wish to fetch it, and says later where it is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from waemitter.inbox.media.store import InboundMediaStore, Stored, Wanted
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


def with_media(
    messages: Sequence[Mapping[str, Any]], files: Mapping[str, Stored]
) -> list[dict[str, Any]]:
    """Meta's message objects, with `media: {path, mime_type, sha256, bytes}` beside those whose file is there.

    `files` by the messages' ids, as `InboundMediaStore.stored` gives them.
    """
    told: list[dict[str, Any]] = []
    for message in messages:
        file = files.get(str(message.get("id")))
        if file is None:
            told.append(dict(message))
            continue
        media = {
            "path": file.path,
            "mime_type": file.mime_type,
            "sha256": file.sha256,
            "bytes": file.bytes,
        }
        told.append({**message, "media": media})
    return told
