"""The operator's pages, put together."""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable, Sequence

import asyncpg

from waemitter import __version__
from waemitter.daemon.shared import OUTBOX, Shared
from waemitter.observe.metrics import Metrics
from waemitter.outbox.channels.store import ChannelStore
from waemitter.outbox.store import OutboxStore
from waemitter.web.auth import Authenticator
from waemitter.web.dashboard.channels import Channels
from waemitter.web.dashboard.outbox import Outbox
from waemitter.web.dashboard.overview import Overview
from waemitter.web.dashboard.pulse import Pulse
from waemitter.web.dashboard.session import Sessions
from waemitter.web.dashboard.site import Dashboard
from waemitter.web.dashboard.store import DashboardStore
from waemitter.web.dashboard.visit import Section
from waemitter.web.store import AuditStore


def dashboard(shared: Shared, *, auth: Authenticator, pulse: Pulse) -> Dashboard:
    return Dashboard(
        sections_of(shared.pool, shared.metrics, pulse, ring=lambda: shared.doorbell.ring(OUTBOX)),
        sessions=Sessions(auth),
        audit=AuditStore(shared.pool),
        pulse=pulse,
        wall=lambda: datetime.datetime.now(datetime.UTC),
        version=__version__,
    )


def sections_of(
    pool: asyncpg.Pool[asyncpg.Record],
    metrics: Metrics,
    pulse: Pulse,
    *,
    ring: Callable[[], None],
) -> Sequence[Section]:
    """`ring` wakes the senders."""
    store = DashboardStore(pool)
    return (
        Overview(store, metrics, pulse, clock=time.monotonic),
        Outbox(store, OutboxStore(pool), ring=ring),
        Channels(store, ChannelStore(pool), ring=ring),
    )
