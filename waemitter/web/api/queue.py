"""`/api/queue/…` and `/webhooks/outbox`: how the queue stands, and further ways to ring its bell."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import Any, Final

from pydantic import ConfigDict, Field, RootModel

from waemitter.errors import NotFound
from waemitter.outbox.campaigns.store import CampaignStore
from waemitter.outbox.intake.store import IntakeStore, Tally
from waemitter.web.api.model import Answered, Body, Nothing, Parameters
from waemitter.web.api.operation import Answer, Call, Operation
from waemitter.web.problems import Problem

SHARE: Final = 20
"""A count that took a second is good for twenty: so 5 % of a connection is the most it costs."""
MOST_KEPT: Final = 100
"""Counts that are remembered, one for each campaign asked for."""
QUEUED: Final = frozenset({"queued", "pending"})


class StatusParameters(Parameters):
    campaign_id: int | None = Field(None, ge=1, le=2**63 - 1)


class Stats(Answered):
    """A funnel since the first message: what was read was delivered, and what was delivered was sent."""

    pending: int
    processing: int
    sent: int
    failed: int
    delivered: int
    read: int


class QueueStatus(Answered):
    stats: Stats
    avg_send_rate: str = Field(examples=["15.2 msg/sec"])


class Progress(Answered):
    """How far a campaign came; `progress`: whole percent of its messages that have an outcome.

    `failed`: also those that were suppressed, expired or cancelled, as in `stats`.
    """

    id: int
    name: str
    progress: int
    total: int
    sent: int
    delivered: int
    failed: int


class CampaignQueueStatus(QueueStatus):
    campaign: Progress


class Rung(Answered):
    success: bool
    queued: bool = Field(description="Whether there was something to ring for.")


class QueueReport(RootModel[CampaignQueueStatus | QueueStatus]):
    """With `campaign`, when one was asked for."""


class DatabaseWebhook(Body):
    """What a platform's database webhook says of a changed row; more may be in it."""

    model_config = ConfigDict(extra="ignore", alias_generator=None)

    type: str | None = None
    table: str | None = None
    record: dict[str, Any] | None = None
    old_record: dict[str, Any] | None = None


class Queue:
    """The handlers; `ring` wakes the senders, `clock` is in seconds."""

    def __init__(
        self,
        *,
        intake: IntakeStore,
        campaigns: CampaignStore,
        ring: Callable[[], None],
        clock: Callable[[], float],
    ) -> None:
        self._intake = intake
        self._campaigns = campaigns
        self._ring = ring
        self._clock = clock
        self._counted: dict[int | None, tuple[float, Tally]] = {}

    def operations(self) -> Sequence[Operation[Any, Any]]:
        return (
            Operation(
                name="queueStatus",
                method="GET",
                path="/api/queue/status",
                summary="How many messages got how far, and how many leave in a second.",
                scope="read",
                params=StatusParameters,
                body=Nothing,
                handle=self.status,
                answers={HTTPStatus.OK: QueueReport},
                refusals=(HTTPStatus.NOT_FOUND,),
            ),
            Operation(
                name="ringQueue",
                method="POST",
                path="/api/queue/worker",
                summary="Look for due messages now.",
                scope="trigger",
                params=Nothing,
                body=Nothing,
                handle=self.work,
                answers={HTTPStatus.OK: Rung},
            ),
            Operation(
                name="outboxChanged",
                method="POST",
                path="/webhooks/outbox",
                summary="A database webhook for the outbox: one more bell.",
                scope="trigger",
                params=Nothing,
                body=DatabaseWebhook,
                handle=self.changed,
                answers={HTTPStatus.OK: Rung},
                aliases=("/api/webhooks/outbox-trigger",),
                hook=True,
            ),
        )

    async def status(self, call: Call[StatusParameters, Nothing]) -> Answer:
        asked = call.params.campaign_id
        campaign = None if asked is None else await self._campaign(asked)
        tally = await self._tally(asked)
        status = QueueStatus(
            stats=Stats.model_validate(tally._asdict()),
            avg_send_rate=f"{tally.recent / 60:.1f} msg/sec",
        )
        if campaign is None:
            return Answer(document=status)
        return Answer(document=CampaignQueueStatus(**status.model_dump(), campaign=campaign))

    async def work(self, _: Call[Nothing, Nothing]) -> Answer:
        self._ring()
        return Answer(document=Rung(success=True, queued=True))

    async def changed(self, call: Call[Nothing, DatabaseWebhook]) -> Answer:
        record = call.body.record or {}
        queued = record.get("status") in QUEUED
        if queued:
            self._ring()
        return Answer(document=Rung(success=True, queued=queued))

    async def _campaign(self, campaign_id: int) -> Progress:
        try:
            found = await self._campaigns.get(campaign_id)
        except NotFound:
            raise Problem(HTTPStatus.NOT_FOUND, f"There is no campaign {campaign_id}.") from None
        return Progress(
            id=found.id,
            name=found.name,
            progress=found.progress,
            total=found.total,
            sent=found.sent,
            delivered=found.delivered,
            failed=found.ended - found.sent,
        )

    async def _tally(self, campaign_id: int | None) -> Tally:
        good_until, tally = self._counted.get(campaign_id, (float("-inf"), None))
        started = self._clock()
        if tally is None or started >= good_until:
            tally = await self._intake.tally(campaign_id)
            took = self._clock() - started
            if len(self._counted) >= MOST_KEPT:
                self._counted.clear()
            self._counted[campaign_id] = (self._clock() + SHARE * took, tally)
        return tally
