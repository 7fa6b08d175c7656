"""How a webhook proves that it is of our Chatwoot: an HMAC over its time and its bytes.

`X-Chatwoot-Signature: sha256=<hex>` is HMAC-SHA256 by the secret, of "{X-Chatwoot-Timestamp}.{raw body}". Account webhooks have
it since 4.11.2, API inboxes and agent bots since 4.13.0 (chatwoot/chatwoot #13573, #13892); older servers sign nothing.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from typing import Final

SKEW: Final = 300.0
"""Seconds by which a timestamp may be off: what was recorded earlier is of no use to whoever plays it again."""

_PREFIX: Final = "sha256="


def sign(secret: str, *, timestamp: str, raw: bytes) -> str:
    """Return what Chatwoot puts into `X-Chatwoot-Signature`."""
    return _PREFIX + hmac.digest(secret.encode(), timestamp.encode() + b"." + raw, "sha256").hex()


def verify(
    secrets: Sequence[str], raw: bytes, *, signature: str, timestamp: str | None, now: float
) -> bool:
    """Tell whether any of the secrets signed `raw`, just now; `now` in seconds since 1970.

    All are tried even after a match, so that the time taken does not tell which one it was.
    """
    if timestamp is None or not (timestamp.isascii() and timestamp.isdigit()):
        return False
    if abs(now - int(timestamp[:20])) > SKEW:
        return False
    claimed = signature.encode(errors="replace")
    matched = False
    for secret in secrets:
        genuine = hmac.compare_digest(sign(secret, timestamp=timestamp, raw=raw).encode(), claimed)
        matched |= genuine and secret != ""
    return matched
