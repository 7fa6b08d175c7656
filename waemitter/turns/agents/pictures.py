"""The images that customers sent, for models that can see."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

MOST: Final = 4
"""Images of one turn, the newest."""
LARGEST: Final = 5 << 20
"""Bytes: Meta lets customers send no larger ones."""
KINDS: Final = ("image/jpeg", "image/png", "image/webp")


class Shelf(Protocol):
    """Where files are kept."""

    async def read(self, path: str) -> bytes:
        """Read what is there. Raises OSError."""
        ...


class Pictures:
    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf

    async def of(self, messages: Sequence[Mapping[str, Any]]) -> list[str]:
        """Give the images of a turn's messages as `data:` addresses, which no endpoint has to fetch.

        What is not there, is too large or is of another kind is left out: the model reads of it in words.
        """
        shown = []
        for message in [each for each in messages if _fits(each)][-MOST:]:
            media = message["media"]
            try:
                file = await self._shelf.read(media["path"])
            except OSError:
                continue  # gone, by its retention or an operator's hand
            shown.append(f"data:{media['mime_type']};base64,{b64encode(file).decode()}")
        return shown


def _fits(message: Mapping[str, Any]) -> bool:
    media = message.get("media")
    return (
        message.get("type") == "image"
        and isinstance(media, Mapping)
        and media.get("status") == "stored"
        and media.get("mime_type") in KINDS
        and media.get("bytes", 0) <= LARGEST
    )
