"""Uploaded media, kept in memory."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from secrets import token_urlsafe
from typing import Final

from waemitter.simulator.ids import Ids
from waemitter.simulator.shapes import bad_parameter, bad_value

_MEGABYTE = 1 << 20
_LIMITS: Final = {
    "audio/aac": 16 * _MEGABYTE,
    "audio/amr": 16 * _MEGABYTE,
    "audio/mpeg": 16 * _MEGABYTE,
    "audio/mp4": 16 * _MEGABYTE,
    "audio/ogg": 16 * _MEGABYTE,
    "image/jpeg": 5 * _MEGABYTE,
    "image/png": 5 * _MEGABYTE,
    "image/webp": 500 * 1024,
    "video/mp4": 16 * _MEGABYTE,
    "video/3gpp": 16 * _MEGABYTE,
}
_DOCUMENTS: Final = ("application/", "text/")
_DOCUMENT_LIMIT = 100 * _MEGABYTE
_ALL_KEPT = 512 * _MEGABYTE


@dataclass(frozen=True, slots=True)
class Media:
    """One file, with the digest that Meta reports of it (SHA-256, hex)."""

    id: str
    mime_type: str
    content: bytes
    sha256: str


class MediaStore:
    """Files by id; the oldest go first when 512 MB are exceeded."""

    def __init__(self, ids: Ids) -> None:
        self._ids = ids
        self._files: dict[str, Media] = {}
        self._tickets: dict[str, tuple[str, float]] = {}
        self._size = 0

    def add(self, mime_type: str, content: bytes) -> Media:
        """Keep a file.

        Raises `Refusal` (100 for a type that WhatsApp does not carry, 131009 for a file that is
        empty or over the limit of its type, as Meta's media reference gives it).
        """
        mime_type = mime_type.partition(";")[0].strip().lower()
        limit = _LIMITS.get(mime_type)
        if limit is None and mime_type.startswith(_DOCUMENTS):
            limit = _DOCUMENT_LIMIT
        if limit is None:
            wanted = ", ".join([*_LIMITS, "application/*", "text/*"])
            raise bad_parameter(
                f"Param file must be a file with one of the following types: {wanted}. "
                f"Received file of type '{mime_type}'."
            )
        if not 0 < len(content) <= limit:
            raise bad_value(f"File size of {len(content)} bytes. Min: 1, Max: {limit}")
        media = Media(self._ids.media(), mime_type, content, sha256(content).hexdigest())
        self._files[media.id] = media
        self._size += len(content)
        while self._size > _ALL_KEPT:
            self.remove(next(iter(self._files)))
        return media

    def get(self, media_id: str) -> Media | None:
        return self._files.get(media_id)

    def remove(self, media_id: str) -> bool:
        """Forget a file; False when there was none."""
        media = self._files.pop(media_id, None)
        self._size -= len(media.content) if media else 0
        return media is not None

    def clear(self) -> None:
        self._files.clear()
        self._tickets.clear()
        self._size = 0

    def ticket(self, media: Media, *, now: float, seconds: float) -> str:
        """Return a word for a download address that is good for `seconds`."""
        self._tickets = {word: t for word, t in self._tickets.items() if t[1] > now}
        word = token_urlsafe(18)
        self._tickets[word] = (media.id, now + seconds)
        return word

    def redeem(self, word: str, *, now: float) -> Media | None:
        """Return the file of a download address, or None when that has expired."""
        media_id, until = self._tickets.get(word, ("", now))
        return self._files.get(media_id) if until > now else None
