"""Files on their way into Chatwoot: from a link, or from Meta, which keeps what customers send by id."""

from __future__ import annotations

import mimetypes
from collections.abc import Mapping
from contextlib import nullcontext
from typing import Final
from urllib.parse import unquote

import aiohttp
from typing_extensions import override
from yarl import URL

from waemitter.chatwoot.client import File
from waemitter.chatwoot.messages import Media
from waemitter.outbox.carriers.chatwoot.carrier import Files
from waemitter.runtime.addresses import only_public
from waemitter.whatsapp.client import GraphClient
from waemitter.whatsapp.inbound_media import DownloadFailed

LARGEST: Final = 40 << 20
"""Bytes; Chatwoot takes no larger file."""


class Fetched(Files):
    """Files are held in memory on their way, one for each message that is in flight."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        numbers: Mapping[str, GraphClient],
        *,
        base_url: str,
        timeout: float,
    ) -> None:
        """`numbers` by channel; `base_url`: Chatwoot's, which may be a private address; `timeout`: seconds for a file."""
        self._session = session
        self._numbers = numbers
        self._chatwoot = URL(base_url).origin() if base_url else None
        self._timeout = timeout

    @override
    async def fetch(self, media: Media, *, channel: str | None) -> File | None:
        number = self._numbers.get(channel or "")
        try:
            if media.link is not None:
                return await self._linked(media, media.link)
            if media.id is not None and number is not None:
                return await self._from_meta(media, media.id, number)
        except (aiohttp.ClientError, OSError, ValueError, DownloadFailed):
            return None
        return None

    async def _linked(self, media: Media, link: str) -> File | None:
        target = URL(link)
        limits = aiohttp.ClientTimeout(total=self._timeout)
        # Whoever may enqueue names the link, and must not read through it what only this host can reach.
        guard = nullcontext() if target.origin() == self._chatwoot else only_public()
        with guard:
            async with self._session.get(target, timeout=limits, allow_redirects=True) as response:
                if not response.ok:
                    return None
                content = bytearray()
                async for chunk in response.content.iter_any():
                    content += chunk
                    if len(content) > LARGEST:
                        return None
                return _file(media, bytes(content), response.content_type, target.path)

    async def _from_meta(self, media: Media, media_id: str, number: GraphClient) -> File:
        described = await number.describe_media(media_id)
        content = bytearray()

        async def write(chunk: bytes) -> None:
            content.extend(chunk)

        await number.download_media(described.url, most=LARGEST, timeout=self._timeout, write=write)
        return _file(media, bytes(content), described.mime_type, "")


def _file(media: Media, content: bytes, mime_type: str | None, path: str) -> File:
    kind = (mime_type or media.mime_type or "application/octet-stream").partition(";")[0].strip()
    name = media.filename or unquote(path.rpartition("/")[2])
    if not name or not name.isprintable():
        name = media.kind + (mimetypes.guess_extension(kind) or "")
    return File(content, name[:200], kind)
