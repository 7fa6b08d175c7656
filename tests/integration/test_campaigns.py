"""A campaign's life: filled in bulk, once for each recipient; drafted, started, paused, resumed, cancelled; quiet at night."""

from __future__ import annotations

import datetime
from collections.abc import AsyncIterator
from typing import Final
from zoneinfo import ZoneInfo

import asyncpg
import pytest

from tests.campaign_rows import TEXT, Campaigns, numbers
from tests.outbox_rows import Outbox, ago, ahead, now, outbox_at
from waemitter.errors import CampaignEnded, NotFound
from waemitter.outbox.campaigns.enqueue import enqueue
from waemitter.outbox.campaigns.form import Form
from waemitter.outbox.campaigns.recipients import Recipient, Rejection, read_csv
from waemitter.outbox.campaigns.store import CampaignStore
from waemitter.outbox.retry import Outcome

MIDNIGHT: Final = datetime.time(0, 0)


@pytest.fixture
async def outbox(dsn: str) -> AsyncIterator[Outbox]:
    async with outbox_at(dsn) as outbox:
        yield outbox


@pytest.fixture
def campaigns(outbox: Outbox) -> Campaigns:
    return Campaigns(outbox, CampaignStore(outbox.pool))


async def suppress(outbox: Outbox, address: str) -> None:
    await outbox.pool.execute("insert into waemitter.suppressions (address) values ($1)", address)


async def test_a_list_becomes_rows_each_frozen_with_its_own_parameters(campaigns: Campaigns):
    campaign = await campaigns.make()
    await suppress(campaigns.outbox, "+14155550002")
    listing = read_csv(
        [
            "phone,name\n",
            "+1 415 555 0001,Ada\n",
            "Bob,Bob\n",
            "+14155550002,Eve\n",
            "+14155550003,\n",
        ]
    )

    report = await enqueue(
        campaigns.store,
        campaign,
        Form("text", {"text": {"body": 'Hello {{name}} "there"'}}),
        listing.entries,
        zoned=False,
    )

    assert (report.queued, report.suppressed, report.duplicates, report.seen) == (1, 1, 0, 4)
    assert [rejected.recipient for rejected in report.rejected] == ["Bob", "+14155550003"]
    assert report.rejected[1].reason == "parameter name: is missing or empty"
    (ada, eve) = [await campaigns.outbox.row(id_) for id_ in await campaigns.messages(campaign)]
    assert ada["payload"] == '{"text": {"body": "Hello Ada \\"there\\""}}'
    assert (ada["recipient"], ada["ordering_key"], ada["status"]) == ("+14155550001", "", "queued")
    assert (eve["status"], eve["available_at"]) == ("suppressed", None)
    assert (await campaigns.counters(campaign))["suppressed"] == 1


async def test_a_broken_import_that_is_repeated_doubles_nothing(campaigns: Campaigns):
    campaign = await campaigns.make()
    form = Form("text", {"text": {"body": "Hello"}})
    everybody = [Recipient(number) for number in numbers(12)]
    await enqueue(campaigns.store, campaign, form, everybody[:7], zoned=False)

    again = await enqueue(campaigns.store, campaign, form, everybody, zoned=False)

    assert (again.queued, again.duplicates) == (5, 7)
    assert len(await campaigns.messages(campaign)) == 12
    assert (await campaigns.counters(campaign))["total"] == 12


async def test_more_than_one_batch_is_written(
    campaigns: Campaigns, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("waemitter.outbox.campaigns.enqueue.ROWS", 250)
    campaign = await campaigns.make()
    seen: list[int] = []

    report = await enqueue(
        campaigns.store,
        campaign,
        Form("text", {"text": {"body": "Hello {{recipient}}"}}),
        [*(Recipient(number) for number in numbers(1050)), Rejection("x", "bad")],
        zoned=False,
        progress=lambda report: seen.append(report.queued),
    )

    assert (report.queued, len(report.rejected)) == (1050, 1)
    assert seen == sorted(seen)
    assert len(seen) > 1
    row = await campaigns.outbox.row((await campaigns.messages(campaign))[-1])
    assert row["recipient"] in row["payload"]


async def test_what_cannot_take_messages_says_so(campaigns: Campaigns):
    form = Form("text", {"text": {"body": "Hello"}})
    cancelled = await campaigns.make(start=False)
    assert await campaigns.store.change(cancelled, "cancel")

    with pytest.raises(CampaignEnded, match="cancelled"):
        await enqueue(campaigns.store, cancelled, form, [Recipient("+14155550001")], zoned=False)
    with pytest.raises(NotFound, match="no campaign 987654"):
        await enqueue(campaigns.store, 987654, form, [Recipient("+14155550001")], zoned=False)
    with pytest.raises(NotFound):
        await campaigns.store.get(987654)


async def test_a_draft_waits_until_it_is_started(campaigns: Campaigns):
    campaign = await campaigns.make(*numbers(3), start=False)
    assert await campaigns.outbox.claim_ids() == []

    assert await campaigns.store.change(campaign, "start")

    assert len(await campaigns.outbox.claim_ids()) == 3
    started = await campaigns.store.get(campaign)
    assert (started.status, started.started_at is not None) == ("running", True)


async def test_a_scheduled_campaign_starts_by_itself(campaigns: Campaigns):
    campaign = await campaigns.make(*numbers(2), starts_at=ahead(3600))
    assert await campaigns.outbox.claim_ids() == []
    assert (await campaigns.store.get(campaign)).status == "scheduled"

    await campaigns.outbox.pool.execute("update waemitter.campaigns set starts_at = $1", ago(1))
    for message in await campaigns.messages(campaign):
        await campaigns.outbox.change(message, available_at=ago(1))
    for attempt in (await campaigns.outbox.claim(1)).attempts:
        await campaigns.outbox.settle(attempt)

    started = await campaigns.store.get(campaign)
    assert (started.status, started.sent) == ("running", 1)


async def test_paused_rows_wait_and_go_on_when_it_is_resumed(campaigns: Campaigns):
    campaign = await campaigns.make(*numbers(3))
    assert len(await campaigns.outbox.claim_ids(1)) == 1

    assert await campaigns.store.change(campaign, "pause")
    assert not await campaigns.store.change(campaign, "pause")
    assert await campaigns.outbox.claim_ids() == []
    assert await campaigns.store.change(campaign, "resume")

    assert len(await campaigns.outbox.claim_ids()) == 2
    assert not await campaigns.store.change(campaign, "resume")


async def test_cancelling_ends_what_has_not_left_and_nothing_else(campaigns: Campaigns):
    campaign = await campaigns.make(*numbers(3))
    attempt, *_ = (await campaigns.outbox.claim(1)).attempts

    assert await campaigns.store.change(campaign, "cancel")
    await campaigns.outbox.settle(attempt)

    counters = await campaigns.counters(campaign)
    assert (counters["cancelled"], counters["sent"]) == (2, 1)
    assert counters == await campaigns.recounted(campaign)
    assert (await campaigns.store.get(campaign)).status == "cancelled"
    assert not await campaigns.store.change(campaign, "start")


async def test_what_a_broken_cancellation_left_a_claim_ends_and_counts(campaigns: Campaigns):
    campaign = await campaigns.make(*numbers(3))
    await campaigns.outbox.pool.execute("select waemitter.cancel_campaign($1)", campaign)

    assert await campaigns.outbox.claim_ids() == []

    record = await campaigns.outbox.pool.fetchrow("select * from waemitter.campaigns")
    assert record is not None
    assert (record["cancelled"], record["total"]) == (3, 3)


async def test_who_opts_out_after_the_enqueue_is_counted_at_the_dispatch(campaigns: Campaigns):
    campaign = await campaigns.make(*numbers(2))
    await suppress(campaigns.outbox, numbers(1)[0])

    assert len(await campaigns.outbox.claim_ids()) == 1
    counters = await campaigns.counters(campaign)
    assert (counters["suppressed"], counters["total"]) == (1, 2)


async def test_failures_are_told_by_code(campaigns: Campaigns):
    campaign = await campaigns.make(*numbers(4))
    first, second, third, _ = (await campaigns.outbox.claim()).attempts
    for attempt, code in ((first, 131026), (second, 131026), (third, 131047)):
        await campaigns.outbox.settle(attempt, Outcome.FAILED, code=code, reason=f"because {code}")

    failures = await campaigns.store.failures(campaign)

    assert [(each.code, each.messages) for each in failures] == [(131026, 2), (131047, 1)]
    assert failures[0].message == "because 131026"


@pytest.mark.parametrize(
    ("at", "zone", "hours", "awake"),
    [
        ("2026-05-01T12:00Z", "UTC", ("21:00", "08:00"), "2026-05-01T12:00Z"),
        ("2026-05-01T21:00Z", "UTC", ("21:00", "08:00"), "2026-05-02T08:00Z"),
        ("2026-05-01T07:59:59Z", "UTC", ("21:00", "08:00"), "2026-05-01T08:00Z"),
        ("2026-05-01T08:00Z", "UTC", ("21:00", "08:00"), "2026-05-01T08:00Z"),
        ("2026-05-01T13:00Z", "UTC", ("12:00", "14:00"), "2026-05-01T14:00Z"),
        ("2026-05-01T14:00Z", "UTC", ("12:00", "14:00"), "2026-05-01T14:00Z"),
        ("2026-05-01T19:30Z", "Europe/Berlin", ("21:00", "08:00"), "2026-05-02T06:00Z"),
        ("2026-05-01T19:30Z", "Asia/Kolkata", ("21:00", "08:00"), "2026-05-02T02:30Z"),
        ("2026-05-01T19:30Z", None, ("19:00", "20:00"), "2026-05-01T20:00Z"),
        ("2026-05-01T19:30Z", "UTC", (None, None), "2026-05-01T19:30Z"),
        # 02:30 does not exist in Berlin on that night
        ("2026-03-29T00:30Z", "Europe/Berlin", ("01:00", "02:30"), "2026-03-29T01:30Z"),
    ],
)
async def test_the_end_of_the_quiet_hours_is_by_the_recipient_s_clock(
    connection: asyncpg.Connection[asyncpg.Record],
    at: str,
    zone: str | None,
    hours: tuple[str | None, str | None],
    awake: str,
):
    start, end = (datetime.time.fromisoformat(hour) if hour else None for hour in hours)
    found = await connection.fetchval(
        "select waemitter.awake($1, $2, $3, $4)",
        datetime.datetime.fromisoformat(at),
        zone,
        start,
        end,
    )
    assert found == datetime.datetime.fromisoformat(awake)


def around_now(zone: str) -> dict[str, datetime.time]:
    """Quiet hours, by that zone's clock, that began an hour ago and end in two."""
    local = now().astimezone(ZoneInfo(zone))
    hours = datetime.timedelta(hours=1)
    return {"quiet_from": (local - hours).time(), "quiet_until": (local + 2 * hours).time()}


async def test_who_sleeps_gets_the_message_when_the_night_is_over(campaigns: Campaigns):
    berlin, delhi = numbers(2)
    campaign = await campaigns.make(start=False, **around_now("Europe/Berlin"))
    await campaigns.fill(campaign, [berlin, delhi], ["Europe/Berlin", "Asia/Kolkata"])
    await campaigns.store.change(campaign, "start")

    asleep, awake = [await campaigns.outbox.row(id_) for id_ in await campaigns.messages(campaign)]

    assert abs((asleep["available_at"] - ahead(2 * 3600)).total_seconds()) < 60
    assert await campaigns.outbox.claim_ids() == [awake["id"]]


async def test_a_row_that_comes_due_at_night_is_put_off_to_the_morning_at_dispatch_too(
    campaigns: Campaigns,
):
    campaign = await campaigns.make(start=False, **around_now("Europe/Berlin"))
    await campaigns.fill(campaign, numbers(1), ["Europe/Berlin"])
    await campaigns.store.change(campaign, "start")
    (message,) = await campaigns.messages(campaign)
    await campaigns.outbox.change(message, available_at=ago(1))  # as a retry or a cap dates it

    assert await campaigns.outbox.claim_ids() == []

    row = await campaigns.outbox.row(message)
    assert abs((row["available_at"] - ahead(2 * 3600)).total_seconds()) < 60
    assert (row["status"], row["hold"]) == ("queued", None)


async def test_a_zone_that_the_server_does_not_know_counts_as_utc(campaigns: Campaigns):
    campaign = await campaigns.make(start=False, quiet_from=MIDNIGHT, quiet_until=datetime.time(1))
    await campaigns.fill(campaign, numbers(2), ["Atlantis/Capital", "Europe/Berlin"])

    rows = [await campaigns.outbox.row(id_) for id_ in await campaigns.messages(campaign)]

    assert [row["time_zone"] for row in rows] == [None, "Europe/Berlin"]


async def test_the_export_has_every_message(campaigns: Campaigns, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("waemitter.outbox.campaigns.store.ROWS", 2)
    campaign = await campaigns.make(*numbers(5))
    await campaigns.outbox.settle(await campaigns.outbox.claim_one(limit=1))

    rows = [row async for row in campaigns.store.export(campaign)]

    assert [row["recipient"] for row in rows] == numbers(5)
    assert [row["status"] for row in rows] == ["sent", *["queued"] * 4]


async def test_an_application_may_fill_a_campaign_with_its_own_rows(dsn: str, campaigns: Campaigns):
    campaign = await campaigns.make()
    application = await asyncpg.connect(dsn, server_settings={"role": "waemitter_app"})
    message = await application.fetchval(
        "select waemitter.send_message('+14155550001', 'text', $1, campaign_id => $2)",
        TEXT,
        campaign,
    )
    assert await application.fetchval("select waemitter.cancel_message($1)", message)
    assert await application.fetchval("select waemitter.retry_message($1)", message)
    await application.close()

    counters = await campaigns.counters(campaign)
    assert (counters["total"], counters["cancelled"]) == (1, 0)
