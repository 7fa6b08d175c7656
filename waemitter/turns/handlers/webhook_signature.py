"""Signatures by which a service knows that a turn is ours: Standard Webhooks, https://www.standardwebhooks.com, symmetric (v1).

The project's own library would bring httpx, attrs and dateutil along for these lines.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from typing import Final

PREFIX: Final = "whsec_"


def key_of(secret: str) -> bytes:
    """Return the key's bytes: `whsec_` and base64, as the standard writes it, or any other text as it is.

    Raises ValueError when what follows `whsec_` is no base64.
    """
    if not secret.startswith(PREFIX):
        return secret.encode()
    try:
        return base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except binascii.Error:
        raise ValueError("begins with whsec_, and what follows is no base64") from None


def sign(key: bytes, *, webhook_id: str, timestamp: int, body: bytes) -> str:
    """Return the header `webhook-signature`; `timestamp` in seconds since 1970."""
    signed = f"{webhook_id}.{timestamp}.".encode() + body
    digest = hmac.new(key, signed, hashlib.sha256).digest()
    return f"v1,{base64.b64encode(digest).decode()}"
