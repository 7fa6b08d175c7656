"""A list of recipients becomes rows of the outbox: each checked and filled, many written by one statement."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from waemitter.errors import PayloadError
from waemitter.outbox.campaigns.form import Form
from waemitter.outbox.campaigns.quiet import zone_of
from waemitter.outbox.campaigns.recipients import Recipient, Rejection
from waemitter.outbox.campaigns.store import ROWS, CampaignStore, Enqueued
from waemitter.whatsapp.requests import normalise_recipient

AT_ONCE: Final = 100
"""Recipients checked before others on the event loop have their turn: some milliseconds."""


@dataclass(slots=True)
class Report:
    """What became of a list. `queued`, `suppressed` (opted out) and `duplicates` are counts of recipients."""

    queued: int = 0
    suppressed: int = 0
    duplicates: int = 0
    rejected: list[Rejection] = field(default_factory=list)

    @property
    def seen(self) -> int:
        return self.queued + self.suppressed + self.duplicates + len(self.rejected)


@dataclass(slots=True)
class _Batch:
    recipients: list[str] = field(default_factory=list)
    payloads: list[str] = field(default_factory=list)
    zones: list[str | None] = field(default_factory=list)


async def enqueue(
    store: CampaignStore,
    campaign_id: int,
    form: Form,
    entries: Iterable[Recipient | Rejection],
    *,
    zoned: bool,
    progress: Callable[[Report], None] = lambda _: None,
) -> Report:
    """Put the form, filled for each, into the outbox; the next batch is prepared while one is written.

    `zoned`: note the recipients' time zones, for quiet hours. A run that broke off may be repeated:
    each recipient gets one message. Raises NotFound and CampaignEnded.
    """
    report = Report()
    source = iter(entries)
    batch = await _prepare(source, form, report, zoned=zoned)
    while batch.recipients:
        try:
            async with asyncio.TaskGroup() as both:
                writing = both.create_task(_write(store, campaign_id, form, batch))
                preparing = both.create_task(_prepare(source, form, report, zoned=zoned))
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from None
        written = writing.result()
        report.queued += written.queued
        report.suppressed += written.suppressed
        report.duplicates += written.duplicates
        batch = preparing.result()
        progress(report)
    return report


async def _prepare(
    source: Iterator[Recipient | Rejection], form: Form, report: Report, *, zoned: bool
) -> _Batch:
    batch = _Batch()
    while len(batch.recipients) < ROWS and (some := list(islice(source, AT_ONCE))):
        for entry in some:
            if isinstance(entry, Rejection):
                report.rejected.append(entry)
                continue
            try:
                address = normalise_recipient(entry.address).value
                payload = form.fill(address, entry.parameters)
            except PayloadError as error:
                report.rejected.append(Rejection(entry.address, str(error)))
                continue
            batch.recipients.append(address)
            if form.names or not batch.payloads:
                batch.payloads.append(payload)
            batch.zones.append(zone_of(address) if zoned else None)
        await asyncio.sleep(0)
    return batch


async def _write(store: CampaignStore, campaign_id: int, form: Form, batch: _Batch) -> Enqueued:
    return await store.enqueue(
        campaign_id,
        message_type=form.message_type,
        recipients=batch.recipients,
        payloads=batch.payloads,
        zones=batch.zones,
    )
