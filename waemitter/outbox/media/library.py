"""Files for messages, each uploaded once: the same bytes get the same media id while Meta keeps them."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import BinaryIO, Final, NamedTuple, Protocol

from waemitter.errors import PayloadError, UploadFailed
from waemitter.outbox.media.store import MediaStore, Stored
from waemitter.whatsapp.errors import Refused
from waemitter.whatsapp.media import HEAD, KEPT, checked

MARGIN: Final = timedelta(days=3)
"""A file that Meta will drop sooner is uploaded anew, so that a message has time to leave."""
TIME: Final = 120.0
"""Seconds for an upload: 100 MB over a slow line."""
LONGEST_NAME: Final = 100


class Uploader(Protocol):
    async def upload_media(
        self, file: BinaryIO, *, mime_type: str, filename: str, timeout: float
    ) -> str | Refused: ...


class Number(NamedTuple):
    """Where a channel's files go: media ids are good for the number that uploaded them alone."""

    phone_number_id: str
    client: Uploader


@dataclass(frozen=True, slots=True)
class Uploaded:
    """`reused`: it was there already."""

    stored: Stored
    reused: bool


class MediaLibrary:
    def __init__(self, store: MediaStore, numbers: Mapping[str, Number]) -> None:
        """`numbers` by channel; without any, as in a dry run, nothing is uploaded."""
        self._store = store
        self._numbers = numbers

    async def upload(
        self, file: BinaryIO, *, channel: str, mime_type: str, filename: str, anew: bool = False
    ) -> Uploaded:
        """Return the file's media id, uploading it if need be; `anew` does so in any case.

        `file` is read from where it stands. Raises PayloadError for what WhatsApp does not carry,
        and UploadFailed when Meta did not take it.
        """
        number = self._numbers.get(channel)
        if number is None:
            raise PayloadError(
                "channel", "has no number to upload to: it is unknown, or this is a dry run"
            )
        start = file.tell()
        sha256, size, head = await asyncio.to_thread(_measure, file)
        mime_type = checked(mime_type, size=size, head=head)
        if not anew:
            known = await self._store.find(
                channel,
                phone_number_id=number.phone_number_id,
                sha256=sha256,
                mime_type=mime_type,
                lasts=MARGIN,
            )
            if known is not None:
                return Uploaded(known, reused=True)
        file.seek(start)
        media_id = await number.client.upload_media(
            file, mime_type=mime_type, filename=plain_name(filename), timeout=TIME
        )
        if isinstance(media_id, Refused):
            raise UploadFailed(f"Meta did not take the file: {media_id.message}")
        stored = await self._store.keep(
            channel,
            phone_number_id=number.phone_number_id,
            sha256=sha256,
            mime_type=mime_type,
            size=size,
            media_id=media_id,
            lasts=KEPT,
        )
        return Uploaded(stored, reused=False)


def plain_name(filename: str) -> str:
    """The last part of a path, of the characters that are safe in any header."""
    last = filename.replace("\\", "/").rpartition("/")[2]
    safe = "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "_" for c in last)
    return safe.lstrip(".")[-LONGEST_NAME:] or "file"


def _measure(file: BinaryIO) -> tuple[str, int, bytes]:
    """SHA-256 in hex, size in bytes, and the beginning."""
    start = file.tell()
    head = file.read(HEAD)
    file.seek(start)
    digest = hashlib.sha256()
    while chunk := file.read(1024 * 1024):
        digest.update(chunk)
    return digest.hexdigest(), file.tell() - start, head
