"""The identifiers that Meta hands out: message ids, media ids, trace ids."""

from __future__ import annotations

from base64 import b64encode
from random import Random
from zlib import crc32

_SENT_BY_BUSINESS = 0x11
_SENT_BY_USER = 0x12
_DISPLAY_DIGITS = 10_000_000


class Ids:
    """Makes ids that never repeat.

    It has randomness of its own: with a seeded one a restarted simulator would hand out the ids of
    its last run again, and they are unique for good.
    """

    def __init__(self, random: Random | None = None) -> None:
        self._random = random or Random()  # noqa: S311 - these ids are names, not secrets

    def outbound(self, recipient: str) -> str:
        """Return the wamid of a message from the business to `recipient`, digits or not."""
        return _wamid(recipient, _SENT_BY_BUSINESS, f"{self._random.getrandbits(72):018X}")

    def inbound(self, sender: str) -> str:
        """Return the wamid of a message that a customer wrote."""
        return _wamid(sender, _SENT_BY_USER, f"3A{self._random.getrandbits(72):018X}")

    def trace(self) -> str:
        """Return the value of `fbtrace_id`."""
        return f"A{self._random.getrandbits(88):022x}"

    def media(self) -> str:
        """Fifteen digits, as in Meta's media ids."""
        return str(self._random.randrange(10**14, 10**15))

    def number(self) -> int:
        """Return an id that Meta sends as a JSON integer, as a template's."""
        return self._random.randrange(10**15, 2**53)


def _wamid(user: str, direction: int, unique: str) -> str:
    digits = (user if user.isdigit() else pseudo_number(user)).encode()
    name = unique.encode()
    packed = bytes((0x1C, 0x18, len(digits))) + digits
    packed += bytes((0x15, 0x02, 0x00, direction, 0x18, len(name))) + name + b"\x00"
    return "wamid." + b64encode(packed).decode()


def pseudo_number(identity: str) -> str:
    """Digits that stand for a user without a phone number inside a wamid, always the same."""
    return f"1000{crc32(identity.encode()) % _DISPLAY_DIGITS:07}"


def display_phone_number(phone_number_id: str) -> str:
    """Return the business's own number, as webhooks' metadata shows it.

    Area code 000 is never assigned, so it is nobody's test recipient by accident.
    """
    return f"1000{crc32(phone_number_id.encode()) % _DISPLAY_DIGITS:07}"
