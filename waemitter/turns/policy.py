"""How patient a worker is, and who tells it of files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Durations in seconds. `enhanced`: instead of the flag enhanced_processing, None = as the database says.

    `desks`: there are Chatwoot channels where people answer; `default_desk`: the one of who is nowhere else;
    `transcript`: they are shown what was said before.
    """

    lease: float = 120.0
    timeout: float = 60.0
    max_attempts: int = 3
    retry_delays: Sequence[float] = (1.0, 5.0, 25.0)
    letter_delay: float = 120.0
    session_ttl: float = 86_400.0
    takeover: float = 86_400.0
    most_superseded: int = 2
    desks: bool = False
    default_desk: str | None = None
    transcript: bool = False
    enhanced: bool | None = None


class Files(Protocol):
    """Where the files of messages are."""

    async def told(
        self, channel: str, messages: Sequence[Mapping[str, Any]]
    ) -> Sequence[Mapping[str, Any]]:
        """Return the messages, with `media` beside those that have a file. Raises DatabaseUnreachable."""
