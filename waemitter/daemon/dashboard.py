"""The operator's pages, put together."""

from __future__ import annotations

import datetime
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence

import asyncpg

from waemitter import __version__
from waemitter.daemon.shared import OUTBOX, Shared
from waemitter.inbox.journal.store import ReplayStore
from waemitter.jobs.store import JobStore
from waemitter.observe.metrics import Metrics
from waemitter.outbox.campaigns.store import CampaignStore
from waemitter.outbox.channels.store import ChannelStore
from waemitter.outbox.letters.store import LetterStore
from waemitter.outbox.store import OutboxStore
from waemitter.turns.flags.store import FlagStore
from waemitter.web.auth import Authenticator
from waemitter.web.dashboard.agents import Agents
from waemitter.web.dashboard.buffers import Buffers
from waemitter.web.dashboard.campaigns import Campaigns
from waemitter.web.dashboard.channels import Channels
from waemitter.web.dashboard.conversations import Conversations
from waemitter.web.dashboard.house import House
from waemitter.web.dashboard.jobs import Jobs
from waemitter.web.dashboard.letters import Letters
from waemitter.web.dashboard.operations.store import OperationsStore
from waemitter.web.dashboard.outbox import Outbox
from waemitter.web.dashboard.overview import Overview
from waemitter.web.dashboard.pulse import Pulse
from waemitter.web.dashboard.records.store import RecordStore
from waemitter.web.dashboard.session import Sessions
from waemitter.web.dashboard.site import Dashboard
from waemitter.web.dashboard.store import DashboardStore
from waemitter.web.dashboard.visit import Section
from waemitter.web.dashboard.webhooks import Webhooks
from waemitter.web.store import AuditStore


def dashboard(
    shared: Shared,
    *,
    auth: Authenticator,
    pulse: Pulse,
    knock: Callable[[], Awaitable[int | None]],
) -> Dashboard:
    """`knock` posts a webhook to ourselves."""
    return Dashboard(
        sections_of(
            shared.pool,
            shared.metrics,
            pulse,
            ring=lambda: shared.doorbell.ring(OUTBOX),
            knock=knock,
            agents={each.name: each.table.tokens_per_day for each in shared.settings.agents},
        ),
        sessions=Sessions(auth),
        audit=AuditStore(shared.pool),
        pulse=pulse,
        wall=now,
        read_only=shared.settings.http.read_only,
        version=__version__,
    )


def now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


def sections_of(
    pool: asyncpg.Pool[asyncpg.Record],
    metrics: Metrics,
    pulse: Pulse,
    *,
    ring: Callable[[], None],
    knock: Callable[[], Awaitable[int | None]],
    agents: Mapping[str, int | None],
) -> Sequence[Section]:
    """`ring` wakes the senders; `knock` posts a webhook to ourselves; `agents`: each with its tokens for a day."""
    store, records, operations = DashboardStore(pool), RecordStore(pool), OperationsStore(pool)
    return (
        Overview(store, metrics, pulse, clock=time.monotonic),
        Outbox(store, OutboxStore(pool), ring=ring),
        Channels(store, ChannelStore(pool), ring=ring),
        Campaigns(CampaignStore(pool), records, ring=ring),
        Letters(LetterStore(pool), ring=ring),
        Webhooks(ReplayStore(pool), records, knock=knock),
        Conversations(records, wall=now),
        Buffers(operations),
        Agents(operations, configured=agents),
        Jobs(JobStore(pool), operations, store),
        House(store, operations, FlagStore(pool)),
    )
