"""Channels: who is paused by whom, for how long, with which others; and what ends it."""

from __future__ import annotations

import datetime
from collections.abc import AsyncIterator
from math import inf
from typing import Any

import pytest

from tests.observing import observing
from tests.outbox_rows import Outbox, ago, ahead, now, outbox_at
from waemitter.outbox.channels.probe import Probe
from waemitter.outbox.channels.store import ChannelStore, Template
from waemitter.whatsapp.errors import ErrorClass, Refused
from waemitter.whatsapp.health import Health

HOUR = datetime.timedelta(hours=1)
PAUSE = "PAUSE_ACCOUNT: the payment method has a problem"


@pytest.fixture
async def outbox(dsn: str) -> AsyncIterator[Outbox]:
    async with outbox_at(dsn) as outbox:
        yield outbox


@pytest.fixture
def store(outbox: Outbox) -> ChannelStore:
    return ChannelStore(outbox.pool)


async def channel(outbox: Outbox, name: str = "default") -> Any:
    return await outbox.pool.fetchrow("select * from waemitter.channels where name = $1", name)


async def paused(outbox: Outbox) -> set[str]:
    records = await outbox.pool.fetch(
        "select name from waemitter.channels where paused_until > now()"
    )
    return {record["name"] for record in records}


async def test_a_paused_channel_gives_nothing_until_it_is_resumed(
    outbox: Outbox, store: ChannelStore
) -> None:
    message = await outbox.put()
    await store.pause(channel="default", seconds=inf, reason=PAUSE)
    assert await outbox.claim_ids() == []
    assert await store.resume(channel="default") == ["default"]
    assert await store.resume(channel="default") == []
    assert await outbox.claim_ids() == [message]


async def test_an_account_pauses_with_all_its_channels_and_no_others(
    outbox: Outbox, store: ChannelStore
) -> None:
    await outbox.channel("default", access_token_hash="a", waba_id="1")
    await outbox.channel("same-token", access_token_hash="a", waba_id="2")
    await outbox.channel("same-waba", access_token_hash="b", waba_id="1")
    await outbox.channel("stranger", access_token_hash="c", waba_id="3")
    await outbox.channel("unknown")

    alone = await store.pause(channel="default", seconds=5, reason="THROTTLE_NUMBER: slower")
    assert alone == ["default"]
    await store.pause(channel="default", seconds=60, reason="THROTTLE_APP: slower", account=True)
    assert await paused(outbox) == {"default", "same-token", "same-waba"}


@pytest.mark.parametrize("key", ["phone_number_id", "waba_id"])
async def test_webhooks_name_a_channel_by_its_number_or_account(
    outbox: Outbox, store: ChannelStore, key: str
) -> None:
    await outbox.channel("default", **{key: "111"})
    await outbox.channel("other", **{key: "222"})
    named: dict[str, Any] = {key: "111"}
    assert await store.pause(seconds=inf, reason=PAUSE, **named) == ["default"]
    assert await store.pause(seconds=inf, reason=PAUSE, **(named | {key: "333"})) == []
    assert await paused(outbox) == {"default"}


async def test_a_pause_never_shortens_another(outbox: Outbox, store: ChannelStore) -> None:
    await store.pause(channel="default", seconds=inf, reason=PAUSE)
    assert await store.pause(channel="default", seconds=60, reason="THROTTLE_NUMBER: x") == []
    row = await channel(outbox)
    assert (row["pause_reason"], row["probe_at"] is not None) == (PAUSE, True)


async def test_news_from_before_the_resume_or_of_a_throttle_that_is_over_is_none(
    outbox: Outbox, store: ChannelStore
) -> None:
    old: dict[str, Any] = {"channel": "default", "happened": ago(30)}
    assert await store.pause(seconds=5, reason="THROTTLE_NUMBER: x", **old) == []
    assert await store.pause(seconds=60, reason="THROTTLE_NUMBER: x", **old) == ["default"]
    row = await channel(outbox)
    assert row["paused_until"] < ahead(40)

    await store.resume(channel="default")
    assert await store.pause(seconds=inf, reason=PAUSE, **old) == []
    assert await store.pause(
        channel="default", seconds=inf, reason=PAUSE, happened=now() + HOUR
    ) == ["default"]


async def test_the_end_of_a_pause_ends_its_reason_whoever_ends_it(
    outbox: Outbox, store: ChannelStore
) -> None:
    await store.pause(channel="default", seconds=inf, reason=PAUSE)
    await outbox.pool.execute("update waemitter.channels set paused_until = null")
    row = await channel(outbox)
    assert (row["pause_reason"], row["probe_at"]) == (None, None)
    assert row["resumed_at"] is not None

    await outbox.pool.execute("update waemitter.channels set paused_until = 'infinity'")
    await outbox.channel("default", probe_at=ago(1), paused_at=ago(1))
    assert await store.resume(channel="default", reasons="PAUSE%") == []


async def test_only_a_new_token_ends_a_pause_by_itself(outbox: Outbox, store: ChannelStore) -> None:
    assert not await store.introduce("default", token_hash="old")
    await store.pause(channel="default", seconds=inf, reason=PAUSE)
    assert not await store.introduce("default", token_hash="old")
    assert (await channel(outbox))["probe_at"] <= now()  # a start probes at once
    assert await store.introduce("default", token_hash="new")
    assert (await channel(outbox))["paused_until"] is None

    await outbox.channel("default", paused_until=ahead(60), pause_reason="audit")
    assert not await store.introduce("default", token_hash="newer")
    assert await paused(outbox) == {"default"}


class Clinic:
    """Meta's answers to probes, the last one for ever."""

    def __init__(self, *answers: Health | Refused) -> None:
        self.answers = list(answers)
        self.asked = 0

    async def health_status(self) -> Health | Refused:
        self.asked += 1
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


BLOCKED = Health("BLOCKED", ("WABA: payment issue",))
EXPIRED = Refused(ErrorClass.PAUSE_ACCOUNT, 190, "the token expired")


async def test_a_probe_resumes_the_channel_once_meta_lets_it_send(
    outbox: Outbox, store: ChannelStore
) -> None:
    meta = Clinic(BLOCKED, EXPIRED, Health("AVAILABLE", ()))
    await store.pause(channel="default", seconds=inf, reason=PAUSE)
    with observing() as observed:
        probe = Probe(store, {"default": meta}, events=observed.events, jitter=lambda: 1.0)
        await probe.look()
        early = meta.asked
        for _ in range(4):
            await outbox.channel("default", probe_at=ago(1))
            await probe.look()
        lines = observed.lines("CHANNEL_PROBED")

    assert (early, meta.asked) == (0, 3)
    assert await paused(outbox) == set()
    assert [line["sends"] for line in lines] == [False, False, True]
    assert lines[0]["detail"] == "BLOCKED; WABA: payment issue"
    assert len(observed.lines("CHANNEL_RESUMED")) == 1


async def test_probes_wait_longer_and_longer_and_only_one_daemon_makes_each(
    outbox: Outbox, store: ChannelStore
) -> None:
    await store.pause(channel="default", seconds=inf, reason=PAUSE)
    for since, wait in ((10, 60), (300, 300), (86_400, 900)):
        await outbox.channel("default", probe_at=ago(1), paused_at=ago(since))
        assert await store.due_probes(["default"]) == ["default"]
        assert await store.due_probes(["default"]) == []
        due = (await channel(outbox))["probe_at"]
        assert due == pytest.approx(ahead(wait), abs=datetime.timedelta(seconds=5))
    await outbox.channel("default", probe_at=ago(1))
    assert await store.due_probes(["another daemon's"]) == []


async def test_what_an_operator_or_a_throttle_paused_is_not_probed(
    outbox: Outbox, store: ChannelStore
) -> None:
    await store.pause(channel="default", seconds=60, reason="THROTTLE_APP: x")
    assert (await channel(outbox))["probe_at"] is None


async def test_a_list_shows_what_keeps_each_channel(store: ChannelStore) -> None:
    await store.hold(Template("default", "order_shipped", "en_US"), reason="x", seconds=60)
    await store.hold(Template("default", "sale", ""), reason="x", seconds=inf)
    await store.pause(channel="default", seconds=inf, reason=PAUSE)
    (row,) = await store.list()
    assert (row["state"], row["pause_reason"], row["paused_until"]) == ("paused", PAUSE, None)
    assert row["held_templates"] == ["order_shipped (en_US)", "sale"]


async def test_a_template_is_released_with_its_messages(
    outbox: Outbox, store: ChannelStore
) -> None:
    message = await outbox.put(
        message_type="template",
        payload='{"template": {"name": "sale", "language": {"code": "en"}}}',
    )
    await store.hold(Template("default", "sale", "en"), reason="x", seconds=inf)
    assert await outbox.claim_ids() == []
    assert (await outbox.row(message))["hold"] == "template:sale"
    assert await store.release(Template("default", "sale", "")) == 1
    assert await store.release(Template("default", "sale", "")) is None
    assert await outbox.claim_ids() == [message]
