"""Files for messages: which ones the Cloud API takes, and how it answers an upload.

Types and sizes are those of Meta's media reference (supported media types). A document may be of
any `application/` or `text/` type. A sticker is the one use of WebP, and may be larger when it
moves. Meta keeps an uploaded file for 30 days.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Final

import orjson

from waemitter.errors import PayloadError
from waemitter.whatsapp.errors import Refused, refuse
from waemitter.whatsapp.replies import Answered, Reply

KEPT: Final = timedelta(days=30)
LARGEST: Final = 100 * 1024 * 1024
"""Bytes of the largest file of any type."""
HEAD: Final = 32
"""Bytes of a file's beginning that `checked` wants to see."""

_MB: Final = 1024 * 1024
_LIMITS: Final = {
    "image/jpeg": 5 * _MB,
    "image/png": 5 * _MB,
    "audio/aac": 16 * _MB,
    "audio/amr": 16 * _MB,
    "audio/mpeg": 16 * _MB,
    "audio/mp4": 16 * _MB,
    "audio/ogg": 16 * _MB,
    "video/mp4": 16 * _MB,
    "video/3gpp": 16 * _MB,
}
_WEBP: Final = "image/webp"
_STICKER: Final = 100 * 1024
_MOVING_STICKER: Final = 500 * 1024
_DOCUMENT: Final = ("application/", "text/")
_OK: Final = 200


def checked(mime_type: str, *, size: int, head: bytes) -> str:
    """Return the type as Meta knows it, without parameters, for a file that it takes.

    `size` in bytes; `head` is the beginning of the file, HEAD bytes or all there are. Raises
    PayloadError, which names the limit.
    """
    bare = mime_type.partition(";")[0].strip().lower()
    limit = _limit(bare, head)
    if limit is None:
        known = ", ".join([*_LIMITS, _WEBP, "application/…", "text/…"])
        raise PayloadError("type", f"is {bare or 'empty'}: WhatsApp carries {known}")
    if size == 0:
        raise PayloadError("file", "is empty")
    if size > limit:
        raise PayloadError("file", f"has {size} bytes: at most {limit} are allowed for {bare}")
    return bare


def _limit(mime_type: str, head: bytes) -> int | None:
    if mime_type == _WEBP:
        return _MOVING_STICKER if _moves(head) else _STICKER
    kind, _, rest = mime_type.partition("/")
    if f"{kind}/" in _DOCUMENT and rest.isascii() and rest.isprintable() and rest.strip():
        return LARGEST
    return _LIMITS.get(mime_type)


def _moves(head: bytes) -> bool:
    """WebP's extended header has a flag for animation (RFC 9649, section 2.7.1)."""
    flags = head[20:21]
    return head[12:16] == b"VP8X" and bool(flags) and bool(flags[0] & 0x02)


def read_upload(reply: Reply) -> str | Refused:
    """Return the media id; whatever is none is judged as a failed send is."""
    if isinstance(reply, Answered) and reply.status == _OK:
        try:
            media_id = orjson.loads(reply.body)["id"]
        except (orjson.JSONDecodeError, KeyError, TypeError):
            return refuse(reply)
        if isinstance(media_id, str) and media_id:
            return media_id
    return refuse(reply)
