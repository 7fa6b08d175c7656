"""What the parts of the daemon share. Stores are cheap and are made by whoever needs one."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import aiohttp
import asyncpg

from waemitter.db.at_hand import AtHand
from waemitter.observe.events import Events
from waemitter.observe.metrics import Metrics
from waemitter.runtime.circuits import Circuits
from waemitter.runtime.doorbell import Doorbell
from waemitter.runtime.supervise import Stop
from waemitter.settings import Settings
from waemitter.turns.turn import Handler

# The channels of LISTEN.
OUTBOX: Final = "waemitter_outbox"
INBOX: Final = "waemitter_inbox"
DASHBOARD: Final = "waemitter_dashboard"
BUFFERS: Final = "waemitter_buffer"
JOBS: Final = "waemitter_jobs"
EVENTS: Final = "waemitter_events"


@dataclass(frozen=True, slots=True)
class Shared:
    """Opened before, and closed after, everything that uses it."""

    settings: Settings
    events: Events
    metrics: Metrics
    pool: asyncpg.Pool[asyncpg.Record]
    at_hand: AtHand
    session: aiohttp.ClientSession
    doorbell: Doorbell
    stop: Stop
    circuits: Circuits
    agents: Mapping[str, Handler]


def jitter() -> float:
    return random.uniform(0.9, 1.1)  # noqa: S311 it spreads load, it guards nothing


def secret(value: object | None) -> str | None:
    """The text of a SecretStr, or of a Dsn."""
    if value is None:
        return None
    text: str = value.get_secret_value()  # type: ignore[attr-defined] # both have it
    return text
