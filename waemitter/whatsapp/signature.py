r"""How Meta proves that a webhook is its own, and how we prove that the endpoint is ours.

Meta signs the raw bytes of the body, with non-ASCII spelled as lower-case `\uXXXX`. A body that
was parsed and written again has another signature, so verify before anything else touches it.
"""

import hmac
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from hashlib import sha256

_PREFIX = "sha256="


def sign(secret: str, raw: bytes) -> str:
    """Return what Meta puts in `X-Hub-Signature-256`: HMAC-SHA256 by the app secret, in hex."""
    keyed = _keyed(secret).copy()
    keyed.update(raw)
    return _PREFIX + keyed.hexdigest()


@lru_cache(maxsize=16)
def _keyed(secret: str) -> hmac.HMAC:
    """With the key mixed in already, which costs as much as to hash a webhook."""
    return hmac.new(secret.encode(), digestmod=sha256)


def verify(secrets: Sequence[str], raw: bytes, header: str | None) -> bool:
    """Tell whether any of the app secrets signed `raw`.

    Several secrets serve a rotation, and several apps on one endpoint. All of them are tried even
    after a match, so that the time taken does not tell which one it was. An empty secret never
    matches: anybody can sign with it.
    """
    if header is None:
        return False
    # compare_digest refuses non-ASCII text, and a forged header may hold any.
    claimed = header.encode(errors="replace")
    matched = False
    for secret in secrets:
        genuine = hmac.compare_digest(sign(secret, raw).encode(), claimed)
        matched |= genuine and secret != ""
    return matched


def handshake(query: Mapping[str, str], verify_tokens: Iterable[str]) -> str | None:
    """Return the challenge to answer with, or None to refuse the subscription with a 403.

    Meta asks once, by GET, with the verify token that was typed into the app's dashboard. Several
    apps may come to one address: each with a token of its own, none of which is empty.
    """
    claimed = query.get("hub.verify_token", "").encode(errors="replace")
    matched = False
    for token in verify_tokens:
        matched |= hmac.compare_digest(claimed, token.encode()) and token != ""
    return query.get("hub.challenge") if matched and query.get("hub.mode") == "subscribe" else None
