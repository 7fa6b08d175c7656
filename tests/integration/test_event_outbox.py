"""The queue of events: order within a subject, leases, failures of one event and of a whole target."""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import AsyncIterator

import pytest

from tests.event_rows import Stream, stream_at
from waemitter.errors import NotFound


@pytest.fixture
async def stream(dsn: str) -> AsyncIterator[Stream]:
    async with stream_at(dsn) as stream:
        await stream.subscribe()
        yield stream


async def test_events_of_a_subject_are_claimed_one_by_one(stream: Stream) -> None:
    for subject in ("a", "a", "b", "a"):
        await stream.put(subject)

    first = await stream.claim()
    assert [event.subject for event in first.events] == ["a", "b"]
    again = await stream.claim()
    assert again.events == ()
    assert again.next_due is not None
    assert again.next_due > 10  # the leases: what waits is parked, and nobody asks for it meanwhile

    await stream.settle(first.events[0])
    (second,) = (await stream.claim()).events
    assert (second.subject, second.id) == ("a", first.events[0].id + 1)
    await stream.settle(second)
    assert [event.subject for event in (await stream.claim()).events] == ["a"]


async def test_what_comes_behind_a_failed_one_waits_for_it(stream: Stream) -> None:
    await stream.put("a")
    (failed,) = (await stream.claim()).events
    await stream.settle(failed, "refused", delay=60)
    await stream.put("a")
    await stream.put("b")

    assert [event.subject for event in await stream.drain()] == ["b"]
    await stream.shift(61)
    assert [event.id for event in await stream.drain()] == [failed.id, failed.id + 1]


async def test_a_lease_that_runs_out_is_claimed_again_and_fences_the_first(stream: Stream) -> None:
    await stream.put("a")
    (first,) = (await stream.claim()).events
    await stream.shift(31)
    (second,) = (await stream.claim()).events
    assert (second.id, second.event_id, second.attempt) == (first.id, first.event_id, 2)

    await stream.settle(first, "hopeless")
    assert (await stream.store.fate(first.id))["error"] is None
    await stream.settle(second)
    assert (await stream.store.fate(first.id))["delivered"]


async def test_what_was_never_started_goes_back_unspent(stream: Stream) -> None:
    await stream.put("a")
    (event,) = (await stream.claim()).events
    await stream.settle(event, "released")

    (again,) = (await stream.claim()).events
    assert again.attempt == 1


async def test_a_target_that_fails_is_left_alone_and_then_asked_with_one_event(
    stream: Stream,
) -> None:
    for subject in "abcd":
        await stream.put(subject)
    events = (await stream.claim(limit=3)).events
    for event in events:
        await stream.settle(event, "failed", delay=1)

    waiting = await stream.claim()
    assert waiting.events == ()
    assert waiting.next_due is not None
    assert 2 < waiting.next_due <= 4  # three failures in a row
    assert (await stream.subscription())["failing_since"] is not None

    await stream.shift(10)
    (probe,) = (await stream.claim()).events
    assert probe.subject == "d"  # it has waited longest for a first try
    await stream.settle(probe)
    assert (await stream.subscription())["failing_since"] is None
    assert [event.subject for event in await stream.drain()] == ["a", "b", "c"]


async def test_an_event_that_alone_is_refused_holds_up_no_other_and_is_given_up(
    stream: Stream,
) -> None:
    await stream.put("a")
    await stream.put("a")
    for _ in range(7):
        (event,) = (await stream.claim()).events
        assert (await stream.settle(event, "refused", delay=10)).given_up == 0
        await stream.put("b")
        assert [each.subject for each in await stream.drain()] == ["b"]
        await stream.shift(11)
    await stream.shift(86_400)
    (event,) = (await stream.claim()).events
    assert (await stream.settle(event, "refused", delay=10)).given_up == 1

    assert [each.id for each in await stream.drain()] == [event.id + 1]
    fate = await stream.store.fate(event.id)
    assert fate == {"delivered": False, "attempts": 8, "error": "it was refused"}


async def test_one_that_is_hopeless_is_given_up_at_once(stream: Stream) -> None:
    await stream.put("a")
    (event,) = (await stream.claim()).events
    assert (await stream.settle(event, "hopeless")).given_up == 1

    assert (await stream.claim()).next_due is None


async def test_who_is_gone_is_told_nothing_more_until_enabled(stream: Stream) -> None:
    await stream.put("a")
    (event,) = (await stream.claim()).events
    assert (await stream.settle(event, "gone")).disabled == "gone"

    assert await stream.claim() == ((), None)
    await stream.outbox.pool.execute("update waemitter.channels set paused_until = 'infinity'")
    assert await stream.count() == 1
    assert await stream.store.test("shop") is None
    assert await stream.store.enable("shop", enabled=True)
    assert [each.id for each in await stream.drain()] == [event.id]


async def test_who_fails_for_days_is_disabled(stream: Stream) -> None:
    for days, reason in ((0, None), (2, None), (2, "failing")):
        await stream.shift(days * 86_400)
        await stream.put(f"on day {days}")
        event = (await stream.claim()).events[0]
        assert (await stream.settle(event, "failed")).disabled == reason

    assert (await stream.subscription())["disabled_reason"] == "failing"
    await stream.store.subscribe("shop", kind="webhook", target="https://new.test", types=["*"])
    assert (await stream.subscription())["disabled_reason"] is None


async def test_an_operator_s_word_outlives_a_new_target(stream: Stream) -> None:
    assert await stream.store.enable("shop", enabled=False)
    assert not await stream.store.enable("shop", enabled=False)
    assert await stream.store.subscribe(
        "shop", kind="nats", target="nats://n.test", types=["message.sent"]
    )
    assert not await stream.store.subscribe(
        "shop", kind="nats", target="nats://n.test", types=["message.sent"]
    )

    assert (await stream.subscription())["disabled_reason"] == "operator"


async def test_what_was_delivered_is_delivered_once_more(stream: Stream) -> None:
    for subject in ("a", "b", "a"):
        await stream.put(subject)
    first = await stream.drain()

    assert await stream.store.redeliver("shop", ago=datetime.timedelta(hours=1)) == 3
    second = await stream.drain()
    assert {each.event_id for each in second} == {each.event_id for each in first}
    assert [each.id for each in second if each.subject == "a"] == sorted(
        each.id for each in first if each.subject == "a"
    )


async def test_old_events_go_and_a_subscription_can_be_forgotten(stream: Stream) -> None:
    await stream.put("old")
    await stream.shift(4 * 86_400)
    await stream.put("new")
    purge = "select waemitter.purge_events(older_than => interval '3 days', max_rows => 1000)"
    assert await stream.outbox.pool.fetchval(purge) == 1

    await stream.store.forget("shop")
    assert await stream.count() == 0
    with pytest.raises(NotFound, match="there is no subscription 'shop'"):
        await stream.store.forget("shop")


async def test_two_daemons_share_a_subscription_and_keep_its_order(stream: Stream) -> None:
    for round_ in range(40):
        for subject in "abc":
            await stream.put(subject, type=f"n{round_}")
    order: dict[str, list[int]] = {"a": [], "b": [], "c": []}

    async def drain() -> None:
        while True:
            claimed = await stream.claim(limit=2)
            if not claimed.events and claimed.next_due is None:
                return
            for event in claimed.events:
                order[event.subject].append(event.id)
                await stream.settle(event)

    await asyncio.wait_for(asyncio.gather(*(drain() for _ in range(4))), 60)
    assert all(ids == sorted(set(ids)) for ids in order.values())
    assert [len(ids) for ids in order.values()] == [40, 40, 40]


async def test_a_trace_that_is_none_is_not_forwarded(stream: Stream) -> None:
    good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    for trace in (good, "a\r\nEvil: header"):
        message = await stream.outbox.put(traceparent=trace)
        await stream.outbox.pool.execute("select waemitter.cancel_message($1)", message)

    assert [event.traceparent for event in await stream.drain()] == [good, None]
