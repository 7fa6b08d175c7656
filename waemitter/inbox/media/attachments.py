"""Whoever answers a message is told where its file is."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from waemitter.inbox.media.store import File, InboundMediaStore
from waemitter.whatsapp.inbound_media import attached

Said = Mapping[str, Any]
"""One of Meta's message objects."""

FIRST_LOOK: Final = (
    0.05  # seconds between two looks for a file that is on its way, doubled up to LAST_LOOK
)
LAST_LOOK: Final = 1.0


class Attachments:
    def __init__(
        self, store: InboundMediaStore, *, patience: float, clock: Callable[[], float]
    ) -> None:
        """`patience`: seconds that messages may wait for files that are being fetched; `clock` in seconds, monotonic."""
        self._store = store
        self._patience = patience
        self._clock = clock

    async def told(self, channel: str, messages: Sequence[Said]) -> Sequence[Said]:
        """Return the messages, with `media` beside those that have a file; see with_media. Raises DatabaseUnreachable."""
        wamids = [str(message.get("id")) for message in messages if attached(message)]
        if not wamids:
            return messages
        until, pause = self._clock() + self._patience, FIRST_LOOK
        files = await self._store.files(channel, wamids)
        while self._clock() < until and any(each.status == "pending" for each in files.values()):
            await asyncio.sleep(pause)  # another daemon may be the one that fetches it
            pause = min(pause * 2, LAST_LOOK)
            files = await self._store.files(channel, wamids)
        return with_media(messages, files)


def with_media(messages: Sequence[Said], files: Mapping[str, File]) -> list[dict[str, Any]]:
    """Meta's message objects, with `media: {status, path, mime_type, sha256, bytes}` beside those that have a file.

    `files` by the messages' ids. Of one that is not `stored` there is the status alone: `pending` or `failed`.
    """
    return [
        dict(message) if file is None else {**message, "media": _media(file)}
        for message in messages
        for file in (files.get(str(message.get("id"))),)
    ]


def _media(file: File) -> dict[str, Any]:
    if file.status != "stored":
        return {"status": file.status}
    return {
        "status": file.status,
        "path": file.path,
        "mime_type": file.mime_type,
        "sha256": file.sha256,
        "bytes": file.bytes,
    }
