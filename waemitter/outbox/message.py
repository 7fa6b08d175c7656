"""A message on its way out: its states, one claimed attempt, and the token that Meta's statuses echo."""

import re
from enum import StrEnum
from typing import Final, NamedTuple


class Status(StrEnum):
    """The states of an outbox row; schema.sql draws who moves them."""

    QUEUED = "queued"
    SENDING = "sending"
    UNCONFIRMED = "unconfirmed"
    SENT = "sent"
    DELIVERED = "delivered"
    READ = "read"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    SUPPRESSED = "suppressed"


IN_QUEUE: Final = frozenset({Status.QUEUED, Status.SENDING, Status.UNCONFIRMED})
"""Whoever waits for a message's fate waits until it has left these."""


class Attempt(NamedTuple):
    """One claimed row. `slot` and `due` are seconds since the epoch, by the server's clock."""

    id: int
    token: int
    recipient: str
    message_type: str
    payload: str
    number: int
    max_attempts: int | None
    correlation_id: str | None
    slot: float
    due: float


class Echo(NamedTuple):
    """What an attempt writes into biz_opaque_callback_data, and gets back with each status."""

    message_id: int
    token: int
    correlation_id: str | None = None

    def text(self) -> str:
        """At most 168 characters of the 512 that Meta carries, so that the user's own have room."""
        head = f"wm1.{self.message_id}.{self.token & _MASK:016x}"
        own = self.correlation_id
        return f"{head}.{own}" if own and _CARRIED(own) else head


_MASK: Final = 2**64 - 1
_ECHO: Final = re.compile(r"wm1\.(\d{1,19})\.([0-9a-f]{16})(?:\.([^|]{1,128}))?(?:\||$)", re.DOTALL)
_CARRIED: Final = re.compile(r"[^|]{1,128}", re.DOTALL).fullmatch


def read_echo(text: str | None) -> Echo | None:
    """The echo at the head of the text; None for another sender's data, or none at all."""
    found = _ECHO.match(text) if text else None
    if found is None:
        return None
    token = int(found[2], 16)
    return Echo(int(found[1]), token - 2**64 if token >= 2**63 else token, found[3])
