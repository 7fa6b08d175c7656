"""When the wait for a status webhook is over: only once one could have come, and all that came were read."""

from __future__ import annotations

import datetime
from collections.abc import AsyncIterator

import asyncpg
import pytest

from tests.outbox_rows import GRACE, Outbox, ago, ahead, now, outbox_at, status
from waemitter.inbox.store import InboxStore
from waemitter.outbox.message import Attempt
from waemitter.outbox.retry import Outcome


@pytest.fixture
async def outbox(dsn: str) -> AsyncIterator[Outbox]:
    async with outbox_at(dsn) as outbox:
        await outbox.channel(statuses_seen_at=now())
        yield outbox


async def unconfirmed(
    outbox: Outbox, *, claimed: float = 200.0, over: float = 1.0, **columns: object
) -> Attempt:
    """An attempt begun `claimed` seconds ago, whose grace is over since `over` seconds."""
    message = await outbox.put(**columns)
    attempt = await outbox.claim_one()
    await outbox.settle(attempt, Outcome.UNCONFIRMED, delay=60.0)
    await outbox.change(message, claimed_at=ago(claimed), available_at=ago(over))
    return attempt


def around(seconds: float) -> object:
    """So many seconds from now, give or take what a test may take."""
    return pytest.approx(ahead(seconds), abs=datetime.timedelta(seconds=5))


async def test_where_webhooks_always_came_silence_ends_with_the_grace(outbox: Outbox) -> None:
    attempt = await unconfirmed(outbox)

    claimed = await outbox.claim()

    assert (claimed.resent, claimed.held) == (1, 0)
    assert [each.id for each in claimed.attempts] == [attempt.id]


@pytest.mark.parametrize(
    ("since", "gap", "left"),
    [
        pytest.param(10, 5, GRACE - 5, id="a short gap: its length, and another grace"),
        pytest.param(10, 300, 300 + GRACE - 10, id="a long gap"),
        pytest.param(10, 86_400, 600 + GRACE - 10, id="a very long gap: ten minutes of it count"),
    ],
)
@pytest.mark.parametrize("policy", ["retry", "hold"])
async def test_an_attempt_from_before_a_gap_waits_until_meta_has_caught_up(
    outbox: Outbox, since: float, gap: float, left: float, policy: str
) -> None:
    attempt = await unconfirmed(outbox, claimed=since + 1)
    await outbox.receiving(since=since, gap=gap)

    claimed = await outbox.claim(policy=policy)

    row = await outbox.row(attempt.id)
    assert (claimed.resent, claimed.held) == (0, 0)
    assert (row["status"], row["hold"]) == ("unconfirmed", None)
    assert row["available_at"] == around(left)
    assert claimed.next_due == pytest.approx(row["available_at"].timestamp())


async def test_when_meta_has_caught_up_it_is_sent_again(outbox: Outbox) -> None:
    await unconfirmed(outbox, claimed=400 + GRACE)
    await outbox.receiving(since=301 + GRACE, gap=300)

    assert (await outbox.claim()).resent == 1


async def test_an_attempt_from_after_the_gap_does_not_wait_for_it(outbox: Outbox) -> None:
    await unconfirmed(outbox, claimed=9)
    await outbox.receiving(since=10, gap=300)

    assert (await outbox.claim()).resent == 1


@pytest.mark.parametrize("seen", [16.0, 86_400.0])
async def test_nothing_is_decided_while_nobody_receives(outbox: Outbox, seen: float) -> None:
    attempt = await unconfirmed(outbox)
    await outbox.receiving(seen=seen)

    claimed = await outbox.claim()

    assert (claimed.resent, claimed.held) == (0, 0)
    assert (await outbox.row(attempt.id))["available_at"] == around(1)


async def test_nor_where_nobody_ever_received(outbox: Outbox) -> None:
    attempt = await unconfirmed(outbox)
    await outbox.pool.execute("delete from waemitter.inbox_health")

    claimed = await outbox.claim()

    assert (claimed.resent, claimed.held) == (0, 0)
    assert (await outbox.row(attempt.id))["status"] == "unconfirmed"


async def test_a_webhook_from_within_the_grace_is_read_first(outbox: Outbox) -> None:
    attempt = await unconfirmed(outbox, over=5)
    await outbox.receiving(unread=6)

    claimed = await outbox.claim()

    assert (claimed.resent, claimed.held) == (0, 0)
    assert (await outbox.row(attempt.id))["available_at"] == around(1)


async def test_one_from_after_the_grace_is_not_waited_for(outbox: Outbox) -> None:
    await unconfirmed(outbox, over=5)
    await outbox.receiving(unread=4)

    assert (await outbox.claim()).resent == 1


async def test_of_many_that_wait_on_none_hides_a_row_that_is_due(outbox: Outbox) -> None:
    await outbox.pool.execute(
        "insert into waemitter.outbox_messages (recipient, message_type, payload, ordering_key, status, available_at,"
        " claimed_at, token, attempts) select '+1415555' || n, 'text', '{}', '', 'unconfirmed',"
        " clock_timestamp() - interval '1 minute', clock_timestamp() - interval '5 minutes', n, 1 from generate_series(1, 2500) n"
    )
    due = await outbox.put()
    await outbox.receiving(since=10, gap=100)

    found: list[int] = []
    for _ in range(8):  # each tidies some five hundred
        found += await outbox.claim_ids(50)

    assert found == [due]
    waiting = "select count(*) from waemitter.outbox_messages where available_at > clock_timestamp() and status = 'unconfirmed'"
    assert await outbox.pool.fetchval(waiting) == 2500


async def health(outbox: Outbox) -> tuple[float, float, float]:
    """Seconds ago: last seen, received since, and how long the gap before was."""
    row = await outbox.pool.fetchrow("select seen_at, since, away_at from waemitter.inbox_health")
    assert row is not None
    seen, since, away = row
    return (
        (now() - seen).total_seconds(),
        (now() - since).total_seconds(),
        (since - away).total_seconds(),
    )


JUST_NOW = datetime.timedelta()


@pytest.mark.parametrize(
    ("seen", "away", "expected"),
    [
        pytest.param(5, None, (0, 1000, 100), id="all is well"),
        pytest.param(300, None, (0, 0, 300), id="a silence is a gap"),
        pytest.param(5, JUST_NOW, (0, 0, 5), id="a start is one"),
        pytest.param(300, JUST_NOW, (0, 0, 300), id="since it was last seen"),
        pytest.param(1, datetime.timedelta(seconds=40), (0, 0, 40), id="a failure of the journal"),
    ],
)
async def test_a_gap_is_told_or_seen_by_the_silence(
    outbox: Outbox,
    seen: float,
    away: datetime.timedelta | None,
    expected: tuple[float, float, float],
) -> None:
    await outbox.receiving(seen=seen, since=1000, gap=100)

    await InboxStore(outbox.pool).note_receiving(away=away)

    assert await health(outbox) == pytest.approx(expected, abs=4)


async def test_gaps_too_close_to_each_other_are_one(outbox: Outbox) -> None:
    await outbox.receiving(seen=20, since=50, gap=100)

    await InboxStore(outbox.pool).note_receiving(away=JUST_NOW)

    assert await health(outbox) == pytest.approx((0, 0, 150), abs=4)


@pytest.mark.parametrize("forgotten", [True, False])
async def test_the_first_daemon_ever_begins_without_a_gap(
    outbox: Outbox, connection: asyncpg.Connection[asyncpg.Record], *, forgotten: bool
) -> None:
    blank = "update waemitter.inbox_health set seen_at = null, since = null, away_at = null"
    await connection.execute("delete from waemitter.inbox_health" if forgotten else blank)

    await InboxStore(outbox.pool).note_receiving(away=JUST_NOW)

    assert await health(outbox) == pytest.approx((0, 0, 0), abs=4)


@pytest.mark.parametrize(
    ("heard", "told", "claimed", "again"),
    [
        pytest.param(1, 150, 200, 0, id="Meta has not come so far"),
        pytest.param(1, 130, 200, 1, id="Meta tells of what was later than the grace"),
        pytest.param(20, 150, 200, 1, id="nothing has come of late"),
        pytest.param(1, 650, 700, 1, id="not for ever"),
        pytest.param(1, 40, 90, 1, id="Meta is not late"),
    ],
)
async def test_while_meta_itself_is_late_silence_proves_nothing(
    outbox: Outbox, heard: float, told: float, claimed: float, again: int
) -> None:
    await outbox.channel(statuses_seen_at=ago(heard), statuses_until=ago(told))
    attempt = await unconfirmed(outbox, claimed=claimed)

    assert (await outbox.claim()).resent == again

    row = await outbox.row(attempt.id)
    assert row["status"] == ("sending" if again else "unconfirmed")
    assert again or row["available_at"] == around(1)


@pytest.mark.parametrize(("told", "again"), [(190, 0), (90, 1)])
async def test_a_late_meta_must_have_come_to_the_end_of_the_wait_after_a_gap(
    outbox: Outbox, told: float, again: int
) -> None:
    await outbox.receiving(since=200, gap=20)  # caught up 120 seconds ago
    await outbox.channel(statuses_seen_at=ago(1), statuses_until=ago(told))
    await unconfirmed(outbox, claimed=260)

    assert (await outbox.claim()).resent == again


async def test_how_far_meta_has_come_is_the_latest_event_of_any_status(outbox: Outbox) -> None:
    await outbox.channel(statuses_seen_at=None)
    first, second = [await outbox.put() for _ in range(2)]
    attempts = {attempt.id: attempt for attempt in (await outbox.claim()).attempts}
    until = "select extract(epoch from clock_timestamp() - statuses_until) from waemitter.channels"

    await outbox.apply(
        status("sent", attempts[first], wamid="wamid.1", at=ago(50)),
        status("delivered", attempts[first], wamid="wamid.1", at=ago(30)),
        status("sent", attempts[second], wamid="wamid.2", at=ago(40)),
    )
    assert float(await outbox.pool.fetchval(until)) == pytest.approx(30, abs=5)

    await outbox.channel(statuses_seen_at=ago(2))
    await outbox.apply(status("read", attempts[second], wamid="wamid.2", at=ago(90)))
    assert float(await outbox.pool.fetchval(until)) == pytest.approx(30, abs=5)

    await outbox.channel(statuses_seen_at=ago(2))
    await outbox.apply(status("read", attempts[first], wamid="wamid.1", at=ahead(500)))
    assert float(await outbox.pool.fetchval(until)) == pytest.approx(0, abs=5)


async def test_on_a_channel_without_statuses_retry_is_hold(outbox: Outbox) -> None:
    await outbox.channel(statuses_seen_at=None)
    await unconfirmed(outbox)

    claimed = await outbox.claim(policy="retry")

    assert (claimed.resent, claimed.held) == (0, 1)


async def test_a_late_answer_proves_nothing_about_webhooks(outbox: Outbox) -> None:
    await outbox.channel(statuses_seen_at=None)
    attempt = await unconfirmed(outbox)
    await outbox.change(attempt.id, status="queued", available_at=ago(1))
    await outbox.claim_one()
    seen = "select statuses_seen_at from waemitter.channels"

    await outbox.late(attempt)

    assert await outbox.pool.fetchval(seen) is None
    await outbox.apply(status("delivered", attempt, wamid="wamid.1"))
    assert await outbox.pool.fetchval(seen) is not None
