"""A campaign's counters: a funnel that is right whatever happens to its messages, in whatever order and however often."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.campaign_rows import Campaigns, numbers
from tests.outbox_rows import Outbox, ago, outbox_at, status
from waemitter.outbox.campaigns.store import CampaignStore
from waemitter.outbox.message import Attempt
from waemitter.outbox.retry import Outcome

ROWS: Final = 3
TOTALS: Final = """
    select sum(sent), sum(delivered), sum(read), sum(failed) from (
      select sent, delivered, read, failed from waemitter.outbox_totals
      union all select sent, delivered, read, failed from waemitter.outbox_counts) c
"""


@pytest.fixture
async def outbox(dsn: str) -> AsyncIterator[Outbox]:
    async with outbox_at(dsn) as outbox:
        yield outbox


@pytest.fixture
def campaigns(outbox: Outbox) -> Campaigns:
    return Campaigns(outbox, CampaignStore(outbox.pool))


async def reply(
    campaigns: Campaigns, *, to: str = "", wamid: str | None = None, clicked: bool = False
) -> int | None:
    counted: int | None = await campaigns.outbox.pool.fetchval(
        "select waemitter.campaign_reply('default', $1, $2, $3)", to, wamid, clicked
    )
    return counted


def steps() -> st.SearchStrategy[list[tuple[str, int, Any]]]:
    row = st.integers(0, ROWS - 1)
    outcomes = st.sampled_from(
        [
            Outcome.SENT,
            Outcome.SENT,
            Outcome.DRY_RUN,
            Outcome.FAILED,
            Outcome.RETRY,
            Outcome.UNCONFIRMED,
        ]
    )
    words = st.sampled_from(["sent", "delivered", "read", "played", "failed", "failed"])
    return st.lists(
        st.one_of(
            st.tuples(st.just("claim"), row, st.none()),
            st.tuples(st.just("settle"), row, outcomes),
            st.tuples(st.just("status"), row, words),
            st.tuples(st.just("cancel"), row, st.none()),
            st.tuples(st.just("retry"), row, st.none()),
            st.tuples(st.just("expire"), row, st.none()),
            st.tuples(st.just("reply"), row, st.booleans()),
        ),
        min_size=4,
        max_size=30,
    )


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],  # a new campaign is enough
)
@given(steps=steps())
async def test_whatever_happens_the_counters_are_those_of_a_recount(
    campaigns: Campaigns, *, steps: list[tuple[str, int, Any]]
) -> None:
    outbox = campaigns.outbox
    await outbox.pool.execute("delete from waemitter.outbox_messages")  # the last example's
    before = await outbox.pool.fetchrow(TOTALS)
    campaign = await campaigns.make(*numbers(ROWS))
    messages = await campaigns.messages(campaign)
    attempts: dict[int, Attempt] = {}
    for step, row, what in steps:
        message = messages[row]
        if step == "claim":
            attempts |= {attempt.id: attempt for attempt in (await outbox.claim()).attempts}
        elif step == "settle" and message in attempts:
            await outbox.settle(attempts[message], what)
        elif step == "status" and message in attempts:
            await outbox.apply(status(what, attempts[message]), status(what, attempts[message]))
        elif step == "cancel":
            await outbox.store.cancel([message])
        elif step == "retry":
            await outbox.store.retry([message])
        elif step == "expire":
            await outbox.change(message, expires_at=ago(1))
            await outbox.claim()
        elif step == "reply":
            wamid = (await outbox.row(message))["whatsapp_message_id"]
            if wamid is not None:
                await reply(campaigns, wamid=wamid, clicked=what)

    counters = await campaigns.counters(campaign)
    assert counters == await campaigns.recounted(campaign)
    totals = zip(await outbox.pool.fetchrow(TOTALS) or (), before or (), strict=True)
    assert [after - earlier for after, earlier in totals] == [
        *(counters[word] for word in ("sent", "delivered", "read")),
        sum(counters[word] for word in ("failed", "suppressed", "cancelled", "expired")),
    ]
    assert counters["sent"] >= counters["delivered"] >= counters["read"]
    ended = sum(counters[word] for word in ("sent", "failed", "suppressed", "cancelled", "expired"))
    assert (await campaigns.store.get(campaign)).status == (
        "completed" if ended == ROWS else "running"
    )


async def test_a_failure_that_turns_out_delivered_moves_the_counters_back(campaigns: Campaigns):
    campaign = await campaigns.make(*numbers(1))
    attempt = await campaigns.outbox.claim_one()
    await campaigns.outbox.settle(attempt)

    await campaigns.outbox.apply(status("failed", attempt))
    failed = await campaigns.counters(campaign)
    await campaigns.outbox.apply(status("read", attempt))
    read = await campaigns.counters(campaign)

    assert (failed["sent"], failed["failed"]) == (0, 1)
    assert (read["sent"], read["delivered"], read["read"], read["failed"]) == (1, 1, 1, 0)


async def test_many_campaigns_in_one_statement_are_each_counted(campaigns: Campaigns):
    made = [await campaigns.make(*numbers(n)) for n in (1, 2, 3)]
    attempts = (await campaigns.outbox.claim()).attempts
    await campaigns.outbox.settle_all(attempts)
    await campaigns.outbox.apply(*(status("delivered", attempt) for attempt in attempts))

    assert [(await campaigns.counters(one))["delivered"] for one in made] == [1, 2, 3]
    assert [(await campaigns.store.get(one)).status for one in made] == ["completed"] * 3


async def test_a_campaign_is_complete_when_every_message_has_an_outcome_and_open_again_with_more(
    campaigns: Campaigns,
):
    campaign = await campaigns.make(*numbers(2))
    first, second = (await campaigns.outbox.claim()).attempts
    await campaigns.outbox.settle(first)
    half = await campaigns.store.get(campaign)
    await campaigns.outbox.settle(second, Outcome.FAILED, code=131026, reason="gone")
    done = await campaigns.store.get(campaign)
    await campaigns.fill(campaign, numbers(1, start=10))
    more = await campaigns.store.get(campaign)

    assert (half.status, half.progress, half.completed_at) == ("running", 50, None)
    assert (done.status, done.progress) == ("completed", 100)
    assert done.completed_at is not None
    assert (more.status, more.progress, more.completed_at) == ("running", 66, None)


async def test_an_application_s_own_rows_are_counted_without_a_lock_on_the_campaign(
    campaigns: Campaigns,
):
    pool = campaigns.outbox.pool
    campaign = await campaigns.make()
    async with pool.acquire() as application, application.transaction():
        await application.execute(
            "insert into waemitter.message_queue (campaign_id, recipient, message_type, payload)"
            " values ($1, '+14155550001', 'text', '{\"text\": {\"body\": \"Hello\"}}')",
            campaign,
        )
        await campaigns.fill(campaign, numbers(1, start=50))  # it would wait for such a lock
        before = await campaigns.counters(campaign)

    assert before["total"] == 1
    assert (await campaigns.counters(campaign))["total"] == 2


async def test_a_recount_repairs_what_an_operator_changed_by_hand(campaigns: Campaigns):
    campaign = await campaigns.make(*numbers(2))
    (message, _) = await campaigns.messages(campaign)
    await campaigns.outbox.change(message, status="failed", available_at=None)
    assert (await campaigns.counters(campaign))["failed"] == 0

    assert await campaigns.outbox.pool.fetchval("select waemitter.recount_campaign($1)", campaign)
    assert await campaigns.counters(campaign) == await campaigns.recounted(campaign)
    assert not await campaigns.outbox.pool.fetchval("select waemitter.recount_campaign(987654)")


async def test_a_tap_is_a_click_and_a_reply_and_each_message_counts_once(campaigns: Campaigns):
    campaign = await campaigns.make(*numbers(2))
    first, second = sorted((await campaigns.outbox.claim()).attempts, key=lambda each: each.id)
    await campaigns.outbox.settle_all([first], wamid="wamid.first")
    await campaigns.outbox.settle_all([second], wamid="wamid.second")

    told = [
        await reply(campaigns, wamid="wamid.first"),
        await reply(campaigns, wamid="wamid.first", clicked=True),
        await reply(campaigns, wamid="wamid.first", clicked=True),
        await reply(campaigns, wamid="wamid.second", clicked=True),
        await reply(campaigns, wamid="wamid.of.nobody", clicked=True),
    ]

    counters = await campaigns.counters(campaign)
    assert (counters["clicked"], counters["replied"], counters["total"]) == (2, 2, 2)
    assert told == [campaign, campaign, None, campaign, None]


async def test_a_reply_without_context_belongs_to_the_last_campaign_of_the_day(
    campaigns: Campaigns,
):
    (recipient,) = numbers(1)
    older, newer = await campaigns.make(recipient), await campaigns.make(recipient)
    for attempt in sorted((await campaigns.outbox.claim()).attempts, key=lambda each: each.id):
        await campaigns.outbox.settle(attempt)
    written = recipient.removeprefix("+")  # as Meta's webhooks have it

    assert await reply(campaigns, to=written) == newer
    assert await reply(campaigns, to=written) is None
    assert await reply(campaigns, to="14155559999") is None
    (message,) = await campaigns.messages(older)
    assert (await campaigns.outbox.row(message))["replied_at"] is None


async def test_a_reply_after_a_day_answers_no_campaign(campaigns: Campaigns):
    (recipient,) = numbers(1)
    campaign = await campaigns.make(recipient)
    attempt = await campaigns.outbox.claim_one()
    await campaigns.outbox.settle(attempt)
    await campaigns.outbox.change(attempt.id, sent_at=ago(25 * 3600))

    assert await reply(campaigns, to=recipient) is None
    assert (await campaigns.counters(campaign))["replied"] == 0
