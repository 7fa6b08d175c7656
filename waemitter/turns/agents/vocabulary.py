"""A model's own vocabulary, where tiktoken and its files are at hand; nothing is ever downloaded."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from functools import lru_cache
from hashlib import sha1
from pathlib import Path
from typing import Final

_SOURCE: Final = "https://openaipublic.blob.core.windows.net/encodings/{}.tiktoken"
"""tiktoken keeps a file under the SHA-1 of the address it came from (tiktoken/load.py)."""


@lru_cache(maxsize=64)
def counter(model: str) -> Callable[[str], int] | None:
    """Return what counts the tokens of a text for this model, or None: not installed, not known, or not cached."""
    try:
        import tiktoken  # noqa: PLC0415  optional
    except ImportError:
        return None
    try:
        name = tiktoken.encoding_name_for_model(model)
    except KeyError:
        return None
    if not _cached(name):
        return None
    encoding = tiktoken.get_encoding(name)
    return lambda text: len(encoding.encode_ordinary(text))


def _cached(encoding: str) -> bool:
    default = str(Path(tempfile.gettempdir()) / "data-gym-cache")
    named = os.environ.get("TIKTOKEN_CACHE_DIR", os.environ.get("DATA_GYM_CACHE_DIR", default))
    digest = sha1(_SOURCE.format(encoding).encode(), usedforsecurity=False).hexdigest()
    return bool(named) and (Path(named) / digest).is_file()
