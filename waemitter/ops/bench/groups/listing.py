"""How fast a campaign's list becomes rows: a plain one, and one with quiet hours by the recipients' clocks."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from waemitter.db.pool import open_pool
from waemitter.ops.bench.bars import Bar, bar
from waemitter.ops.bench.cloud import BenchFailed
from waemitter.ops.bench.groups.group import Told
from waemitter.ops.bench.plan import Plan
from waemitter.ops.bench.site import Site
from waemitter.outbox.campaigns.enqueue import enqueue
from waemitter.outbox.campaigns.form import Form
from waemitter.outbox.campaigns.quiet import parse_quiet_hours
from waemitter.outbox.campaigns.recipients import Recipient
from waemitter.outbox.campaigns.store import CampaignStore, NewCampaign

NUMBERS: Final = (
    "+1415",
    "+1212",
    "+4915",
    "+447",
    "+5511",
    "+9198",
    "+336",
    "+628",
    "+52",
    "+234",
)
LENGTH: Final = 13
SEED: Final = 1
FORM: Final = Form("text", {"text": {"body": "Our sale has begun: https://example.com/sale"}})
QUIET: Final = parse_quiet_hours("21:00-08:00")


@dataclass(frozen=True, slots=True)
class Listed:
    """Rows a second, from the first recipient read to the last commit."""

    recipients: int
    plain: float
    quiet: float


class Listing:
    name: Final = "campaigns"

    def __init__(self) -> None:
        self._listed: list[Listed] = []

    async def measure(self, on: Site, plan: Plan, told: Told) -> None:
        async with open_pool(on.stage.dsn, size=2, application_name="bench") as pool:
            store = CampaignStore(pool)
            for n in range(plan.runs):
                told(f"campaigns of {plan.listed:,} recipients; run {n + 1} of {plan.runs}")
                rates = [
                    await _list(on, store, plan.listed, quiet=quiet) for quiet in (False, True)
                ]
                self._listed.append(Listed(plan.listed, *rates))
        await on.store.clear()
        await on.store.clear_campaigns()

    def bars(self) -> Sequence[Bar]:
        name, runs = "campaign enqueue", self._listed
        return [
            bar(f"{name}: plain", "rows a second", [run.plain for run in runs], at_least=20_000),
            bar(
                f"{name}: quiet hours",
                "rows a second",
                [run.quiet for run in runs],
                at_least=20_000,
            ),
        ]

    def runs(self) -> dict[str, Any]:
        return {"listed": [asdict(run) for run in self._listed]}


async def _list(on: Site, store: CampaignStore, recipients: int, *, quiet: bool) -> float:
    await on.store.clear()
    campaign = NewCampaign(name="bench").quiet(QUIET if quiet else None)
    campaign_id = await store.create(campaign)
    listed = list(_numbers(recipients))
    began = time.perf_counter()
    report = await enqueue(store, campaign_id, FORM, listed, zoned=quiet)
    took = time.perf_counter() - began
    if report.queued != recipients:
        raise BenchFailed(f"{report.queued} of {recipients} recipients were enqueued")
    return recipients / took


def _numbers(recipients: int) -> Iterator[Recipient]:
    """Numbers of ten countries in no order, each once."""
    dice = random.Random(SEED)  # noqa: S311 no secret
    for n in range(recipients):
        start = dice.choice(NUMBERS)
        yield Recipient(start + str(n).zfill(LENGTH - len(start)))
