"""What a key of the HTTP API may do."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final, Literal, get_args

Scope = Literal["trigger", "send", "campaigns", "jobs", "read", "admin"]
SCOPES: Final[tuple[Scope, ...]] = get_args(Scope)


def covers(granted: Collection[str], needed: Scope | None) -> bool:
    """Whether scopes suffice; `admin` implies all others, and None asks for a key alone."""
    return needed is None or needed in granted or "admin" in granted
