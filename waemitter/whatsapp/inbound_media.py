"""Files that customers send: what a message says of one, and how the Cloud API tells where it is.

A webhook brings a media id, good for seven days. `GET /{media id}` gives an address that lives for
five minutes and wants the bearer token; when it answers 404, a new one is asked for. Digests are
base64 in webhooks and hex in the API's answers (Meta's media reference).
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import orjson

from waemitter.errors import WaemitterError
from waemitter.whatsapp.errors import refuse
from waemitter.whatsapp.replies import Answered, Reply

KINDS: Final = ("image", "video", "audio", "document", "sticker")
"""Types of messages that carry a file, each under its own key."""

OTHER_EXTENSION: Final = ".bin"
_EXTENSIONS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "image/jpeg": ".jpg",
        "image/png": ".png",
        "image/webp": ".webp",
        "video/mp4": ".mp4",
        "video/3gpp": ".3gp",
        "audio/aac": ".aac",
        "audio/amr": ".amr",
        "audio/mpeg": ".mp3",
        "audio/mp4": ".m4a",
        "audio/ogg": ".ogg",
        "application/pdf": ".pdf",
        "application/zip": ".zip",
        "application/msword": ".doc",
        "application/vnd.ms-excel": ".xls",
        "application/vnd.ms-powerpoint": ".ppt",
        "application/vnd.openxmlformats-officedocument.wordprocessingml.document": ".docx",
        "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": ".xlsx",
        "application/vnd.openxmlformats-officedocument.presentationml.presentation": ".pptx",
        "text/csv": ".csv",
        "text/plain": ".txt",
    }
)
_OK: Final = 200
_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,128}")
_MIME: Final = re.compile(r"[a-z0-9]+/[a-z0-9][a-z0-9.+_-]{0,126}")
_HEX: Final = re.compile(r"[0-9a-fA-F]{64}")
_DIGEST_BYTES: Final = 32


class DownloadFailed(WaemitterError):
    """A file could not be fetched. `again`: the fault may pass; `moved`: ask for a new address."""

    def __init__(self, reason: str, *, again: bool = True, moved: bool = False) -> None:
        """`reason` is stored and logged: no address, no token."""
        super().__init__(reason)
        self.again = again
        self.moved = moved


class Attached(NamedTuple):
    """What a message says of its file; `sha256` in hex."""

    kind: str
    media_id: str
    mime_type: str | None
    sha256: str | None


class Described(NamedTuple):
    """Where a file can be fetched, for five minutes; `sha256` in hex, `size` in bytes."""

    url: str
    mime_type: str | None
    sha256: str | None
    size: int | None


def attached(message: Mapping[str, Any]) -> Attached | None:
    """The file of one of Meta's message objects; None when it has none, or none with an id."""
    kind = message.get("type")
    if not isinstance(kind, str) or kind not in KINDS:
        return None
    part = message.get(kind)
    media_id = part.get("id") if isinstance(part, dict) else None
    if not isinstance(part, dict) or not isinstance(media_id, str) or not _ID.fullmatch(media_id):
        return None
    return Attached(kind, media_id, mime_of(part.get("mime_type")), digest_of(part.get("sha256")))


def read_description(reply: Reply) -> Described:
    """Read the answer about a media id. Raises DownloadFailed with Meta's words."""
    if isinstance(reply, Answered) and reply.status == _OK:
        try:
            told = orjson.loads(reply.body)
        except orjson.JSONDecodeError:
            told = None
        if isinstance(told, dict) and isinstance(url := told.get("url"), str):
            size = told.get("file_size")
            return Described(
                url,
                mime_of(told.get("mime_type")),
                digest_of(told.get("sha256")),
                int(size) if isinstance(size, int | str) and str(size).isdecimal() else None,
            )
    raise DownloadFailed(refuse(reply).message)


def digest_of(word: object) -> str | None:
    """A SHA-256 in hex, from hex or base64; None when it is neither."""
    if not isinstance(word, str):
        return None
    if _HEX.fullmatch(word):
        return word.lower()
    try:
        digest = base64.b64decode(word, validate=True)
    except (binascii.Error, ValueError):
        return None
    return digest.hex() if len(digest) == _DIGEST_BYTES else None


def mime_of(word: object) -> str | None:
    """A type without its parameters, as in `audio/ogg; codecs=opus`; None when it is none."""
    if not isinstance(word, str):
        return None
    bare = word.partition(";")[0].strip().lower()
    return bare if _MIME.fullmatch(bare) else None


def extension(mime_type: str | None) -> str:
    """Of a closed set: a file's own name, which its sender chose, names nothing here."""
    return _EXTENSIONS.get(mime_type or "", OTHER_EXTENSION)
