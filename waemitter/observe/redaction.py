"""The last line of defence: what must not be logged is masked, wherever it came from. Pure.

Callers hand over ids, counts and words, so nothing here should ever have to match. Libraries,
exceptions and hasty changes are why it runs on every line all the same.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

MASK: Final = "[redacted]"

# A wamid is base64 around the user's number. UUIDs and hashes are matched first, to be kept: a
# stretch of digits inside one is nobody's number.
_SENSITIVE: Final = re.compile(
    r"""
      (?P<id> \b (?: [0-9a-f]{8} (?:-[0-9a-f]{4}){3} -[0-9a-f]{12}
                   | (?=[0-9]*[a-f]) [0-9a-f]{16,64} ) \b )
    | (?<=://) [^/\s@]+ (?=@)                          # the login of a DSN
    | wamid\. [\w+/=.-]*
    | \b bearer \s+ \S+
    | \b EAA [0-9a-z]{16,}                             # how Meta's access tokens begin
    | \+ \d [\d\s().-]{5,} \d                          # +49 (151) 123-456
    | \(? \b \d{3} \)? [\s.-]{1,2} \d{3} [\s.-] \d{4} \b  # (415) 555-0123
    | \d{7,}
    """,
    re.VERBOSE | re.IGNORECASE,
)
_UUID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_UUID_LENGTH: Final = 36
_HEX: Final = re.compile(r"[0-9a-f]{32}")
_HEX_LENGTH: Final = 32
_DIGIT: Final = re.compile(r"\d")

_SECRET_WORDS: Final = frozenset(
    {
        *("token", "secret", "password", "passwd", "authorization", "cookie", "signature"),
        *("dsn", "body", "payload", "phone", "recipient", "wamid", "msisdn", "apikey"),
    }
)
_SECRET_KEYS: Final = frozenset({"api_key", "wa_id", "to", "from", "whatsapp_message_id"})
_HARMLESS_KEYS: Final = frozenset({"phone_number_id"})
_NUMBERS: Final = frozenset({int, float, bool})
_WORD: Final = re.compile(r"[A-Z]*[a-z]+|[A-Z]+")


@lru_cache(maxsize=1024)
def is_secret(key: str) -> bool:
    """Tell whether a value under this name is masked whole: `access_token`, `authToken`, `to`."""
    if key in _HARMLESS_KEYS:
        return False
    words = {word.lower() for word in _WORD.findall(key)}
    return key in _SECRET_KEYS or not words.isdisjoint(_SECRET_WORDS)


def redact_text(text: str) -> str:
    """Mask telephone numbers, wamids, bearer and access tokens, and logins in URLs."""
    # Nearly every string is a UUID, with or without its dashes, or a word without a digit: spare it the long expression.
    if len(text) == _UUID_LENGTH and _UUID.fullmatch(text):
        return text
    if len(text) == _HEX_LENGTH and _HEX.fullmatch(text) and not text.isdigit():
        return text
    if not _DIGIT.search(text) and "://" not in text and "earer" not in text:
        return text
    return _SENSITIVE.sub(lambda match: match["id"] or MASK, text)


def redact(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return what may be logged of `fields`: JSON's own types, masked all the way down, no None."""
    safe: dict[str, Any] = {}
    for key, value in fields.items():
        kind = type(value)  # exact types first: nearly all values are, and isinstance costs more
        if kind is str and not is_secret(key):
            safe[key] = redact_text(value)
        elif kind in _NUMBERS and not is_secret(key):
            safe[key] = value
        elif value is not None:
            safe[key] = _redact_value(key, value)
    return safe


def _redact_value(key: str, value: Any) -> Any:
    if is_secret(key):
        return MASK
    match value:
        case None | bool() | int() | float():
            return value
        case Mapping():
            return redact({str(name): inner for name, inner in value.items()})
        case list() | tuple() | set() | frozenset():
            return [_redact_value(key, inner) for inner in value]
        case bytes() | bytearray() | memoryview():
            return f"[{len(value)} bytes]"
        case _:
            text = str(value)
    return redact_text(text)
