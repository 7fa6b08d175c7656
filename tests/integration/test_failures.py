"""Failures that Meta told by webhook, after it had accepted the message: sent again, buried, and what they ask for besides."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.observing import Observed, observing
from tests.outbox_rows import Outbox, ago, ahead, now, outbox_at, status
from waemitter.inbox.failures import Failure, Failures, Notice
from waemitter.outbox.channels.store import ChannelStore
from waemitter.outbox.letters.store import LetterStore
from waemitter.outbox.message import Attempt
from waemitter.outbox.retry import Patience
from waemitter.whatsapp.errors import classify_status_error

PATIENCE = Patience(max_attempts=5, delays=(60, 120), grace=60)
DEFERRING = Patience(max_attempts=5, delays=(60, 120), grace=60, postpone=True)
NUMBER = "111000111"
TEMPLATE = '{"template": {"name": "sale", "language": {"code": "en"}}}'


@dataclass
class Meta:
    """Tells of failures as the splitter does: statuses first, then what they ask for, in one transaction."""

    outbox: Outbox
    observed: Observed
    patience: Patience = PATIENCE
    rung: list[bool] = field(default_factory=list)

    async def sent(self, **columns: Any) -> Attempt:
        await self.outbox.put(**columns)
        attempt = await self.outbox.claim_one()
        await self.outbox.settle(attempt)
        return attempt

    async def fails(self, attempt: Attempt, code: int, **more: Any) -> None:
        refused = classify_status_error([{"code": code, "title": "Refused"}])
        update = status("failed", attempt, code=code, reason="Refused", **more)
        failures = self.failures()
        async with self.outbox.pool.acquire() as connection, connection.transaction():
            await self.outbox.store.apply_statuses(connection, [update])
            tell = await failures.apply(connection, [Failure(update, NUMBER, refused)])
        tell()

    def failures(self) -> Failures:
        return Failures(
            LetterStore(self.outbox.pool),
            ChannelStore(self.outbox.pool),
            events=self.observed.events,
            patience=self.patience,
            jitter=lambda: 1.0,
            requeued=lambda: self.rung.append(True),
        )

    async def row(self, attempt: Attempt) -> Any:
        return await self.outbox.row(attempt.id)

    async def again(self, attempt: Attempt) -> Attempt:
        """The next attempt, some time later."""
        await self.outbox.change(attempt.id, available_at=ago(0))
        await self.outbox.channel(paused_until=None)
        return await self.outbox.claim_one()

    async def only(self, table: str) -> Any:
        """The only row of a table, if there is one."""
        rows = await self.outbox.pool.fetch(f"select * from waemitter.{table}")
        assert len(rows) <= 1
        return rows[0] if rows else None

    async def letter(self) -> Any:
        return await self.only("dead_letters")

    async def channel(self) -> Any:
        return await self.only("channels")


@pytest.fixture
async def meta(dsn: str) -> AsyncIterator[Meta]:
    async with outbox_at(dsn) as outbox:
        await outbox.channel(phone_number_id=NUMBER)
        with observing() as observed:
            yield Meta(outbox, observed)


@pytest.mark.parametrize("code", [131026, 131047, 130472, 132012, 131050])
async def test_a_lasting_failure_is_buried_once(meta: Meta, code: int) -> None:
    attempt = await meta.sent()
    await meta.fails(attempt, code)
    await meta.outbox.pool.execute(
        "update waemitter.dead_letters set resolution_status = 'discarded'"
    )
    await meta.fails(attempt, code)

    letter = await meta.letter()
    assert (await meta.row(attempt))["status"] == "failed"
    assert (letter["stage"], letter["error_code"], letter["attempts"]) == ("status", code, 1)
    assert (letter["error_class"], letter["resolution_status"]) == ("FAIL", "discarded")
    (line,) = meta.observed.lines("OUTBOX_DELIVERY_FAILED")
    assert (line["message_id"], line["error_code"], "delay" in line) == (attempt.id, code, False)
    assert not meta.rung


async def test_a_passing_failure_is_sent_again_a_few_times(meta: Meta) -> None:
    attempt = await meta.sent()
    delays = []
    for _ in range(2):
        await meta.fails(attempt, 131000)
        row = await meta.row(attempt)
        assert (row["status"], row["sent_at"], row["whatsapp_message_id"]) == ("queued", None, None)
        delays.append(round((row["available_at"] - now()).total_seconds() / 10) * 10)
        attempt = await meta.again(attempt)
        await meta.outbox.settle(attempt)
    await meta.fails(attempt, 131000)

    assert delays == [60, 120]
    assert (await meta.row(attempt))["status"] == "failed"
    assert (await meta.letter())["attempts"] == 3
    assert len(meta.rung) == 2


async def test_a_repeated_failure_of_an_attempt_that_is_over_changes_nothing(meta: Meta) -> None:
    first = await meta.sent()
    await meta.fails(first, 131000)
    await meta.fails(first, 131000)
    assert (await meta.row(first))["status"] == "queued"
    await meta.outbox.settle(await meta.again(first))
    await meta.fails(first, 131000)

    assert (await meta.row(first))["status"] == "sent"
    assert await meta.letter() is None


async def test_a_late_delivery_of_a_message_that_waits_to_be_sent_again_ends_it(meta: Meta) -> None:
    attempt = await meta.sent()
    await meta.fails(attempt, 131000)
    await meta.outbox.apply(status("delivered", attempt))
    assert (await meta.row(attempt))["status"] == "delivered"


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        ('{"image": {"link": "https://example.com/a.jpg"}}', "queued"),
        ('{"image": {"id": "1234"}}', "failed"),
    ],
)
async def test_media_that_could_not_be_fetched_is_tried_again_by_its_link_alone(
    meta: Meta, payload: str, expected: str
) -> None:
    attempt = await meta.sent(message_type="image", payload=payload)
    await meta.fails(attempt, 131053)
    assert (await meta.row(attempt))["status"] == expected


async def test_what_meta_chose_not_to_deliver_fails_by_default(meta: Meta) -> None:
    attempt = await meta.sent()
    await meta.fails(attempt, 131049)
    assert (await meta.row(attempt))["status"] == "failed"
    assert (await meta.letter())["error_class"] == "DEFER"


async def test_what_meta_chose_not_to_deliver_is_deferred_by_a_day_once_where_that_is_wished(
    meta: Meta,
) -> None:
    meta.patience = DEFERRING
    attempt = await meta.sent(ordering_key="Ada")
    await meta.fails(attempt, 131049)
    row = await meta.row(attempt)
    assert (row["status"], row["attempts"]) == ("queued", 1)
    assert row["available_at"] > ahead(86_390)
    assert (await meta.sent(ordering_key="Ada")).id != attempt.id  # its lane does not wait a day

    second = await meta.again(attempt)
    await meta.outbox.settle(second)
    await meta.fails(second, 131049)
    assert (await meta.row(attempt))["status"] == "failed"


@pytest.mark.parametrize(
    ("code", "reason", "forever"),
    [
        (131042, "PAUSE_ACCOUNT", True),
        (131031, "PAUSE_ACCOUNT", True),
        (131045, "PAUSE_NUMBER", True),
        (131048, "THROTTLE_NUMBER", False),
        (80007, "THROTTLE_APP", False),
    ],
)
async def test_what_concerns_the_number_pauses_it_and_the_message_goes_back_unspent(
    meta: Meta, code: int, reason: str, *, forever: bool
) -> None:
    attempt = await meta.sent()
    await meta.fails(attempt, code)

    row, channel = await meta.row(attempt), await meta.channel()
    assert (row["status"], row["attempts"], await meta.letter()) == ("queued", 0, None)
    assert channel["pause_reason"] == f"{reason}: Refused"
    assert (channel["probe_at"] is not None) == forever
    assert channel["throttle"] == 1  # none of them says that it was sent too fast
    assert await meta.outbox.claim_ids() == []
    (line,) = meta.observed.lines("CHANNEL_PAUSED")
    assert line["level"] == ("warning" if code == 80007 else "error")


async def test_a_limit_that_was_met_pauses_the_number_and_lowers_its_rate_once(meta: Meta) -> None:
    for attempt in (await meta.sent(), await meta.sent()):
        await meta.fails(attempt, 130429, at=ago(1))

    channel = await meta.channel()
    assert channel["pause_reason"] == "THROTTLE_NUMBER: Refused"
    assert channel["throttle"] == pytest.approx(0.7)


async def test_a_limit_that_a_number_s_error_tells_of_lowers_its_rate(meta: Meta) -> None:
    refused = classify_status_error([{"code": 130429, "title": "Too fast"}])
    async with meta.outbox.pool.acquire() as connection, connection.transaction():
        await meta.failures().apply(connection, [], [Notice(NUMBER, refused)])
    assert (await meta.channel())["throttle"] == pytest.approx(0.7)


async def test_what_concerns_one_recipient_makes_it_wait_alone(meta: Meta) -> None:
    attempt = await meta.sent(ordering_key=None)
    await meta.fails(attempt, 131056)
    row = await meta.row(attempt)
    assert (row["status"], row["attempts"], row["hold"]) == ("queued", 0, "pair")
    assert (await meta.only("outbox_pairs"))["strikes"] == 1
    assert (await meta.channel())["paused_until"] is None


async def test_a_message_does_not_go_to_and_fro_for_ever(meta: Meta) -> None:
    attempt = await meta.sent()
    for _ in range(20):
        await meta.fails(attempt, 131042)
        attempt = await meta.again(attempt)
        await meta.outbox.settle(attempt)
    await meta.fails(attempt, 131042)
    assert (await meta.row(attempt))["status"] == "failed"
    assert (await meta.letter())["error_class"] == "PAUSE_ACCOUNT"


async def test_a_refused_template_is_held_with_the_message_that_told(meta: Meta) -> None:
    attempt = await meta.sent(message_type="template", payload=TEMPLATE)
    await meta.fails(attempt, 132015)
    held = await meta.only("held_templates")
    assert (held["template"], held["language"], held["until"] > ahead(3000)) == ("sale", "en", True)
    assert await meta.outbox.claim_ids() == []
    assert (await meta.row(attempt))["hold"] == "template:sale"
    (line,) = meta.observed.lines("TEMPLATE_HELD")
    assert (line["level"], line["template"]) == ("error", "sale")


async def test_an_opt_out_suppresses_its_recipient(meta: Meta) -> None:
    attempt = await meta.sent(recipient="+1 415 555 0123")
    await meta.fails(attempt, 131050)
    found = await meta.only("suppressions")
    assert (found["address"], found["channel"]) == ("14155550123", "default")
    assert found["reason"] == "marketing_stop"


async def test_errors_about_a_number_pause_it_without_a_message(meta: Meta) -> None:
    refused = classify_status_error([{"code": 131031, "title": "Locked"}])
    async with meta.outbox.pool.acquire() as connection, connection.transaction():
        tell = await meta.failures().apply(
            connection, [], [Notice(NUMBER, refused), Notice(None, refused)]
        )
    tell()
    assert (await meta.channel())["pause_reason"] == "PAUSE_ACCOUNT: Locked"
    assert len(meta.observed.lines("CHANNEL_PAUSED")) == 1


async def test_a_failure_without_our_echo_is_found_by_its_wamid(meta: Meta) -> None:
    attempt = await meta.sent()
    wamid = (await meta.row(attempt))["whatsapp_message_id"]
    await meta.fails(attempt, 131026, message_id=None, token=None, wamid=wamid)
    assert (await meta.letter())["message_id"] == attempt.id


async def test_failures_of_messages_of_others_pause_our_number_and_do_nothing_else(
    meta: Meta,
) -> None:
    attempt = await meta.sent()
    other = Attempt(99, 7, "", "text", "{}", 1, None, None, 0.0, 0.0)
    await meta.fails(other, 131042)
    assert (await meta.row(attempt))["status"] == "sent"
    assert (await meta.channel())["pause_reason"] == "PAUSE_ACCOUNT: Refused"
