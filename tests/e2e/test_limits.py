from __future__ import annotations

import datetime
import math
from itertools import pairwise
from typing import Any, Final

import pytest

from tests.e2e.scene import UNLIMITED, Scene, until

LATENCY = 0.05


def fullest(limit: int, report: dict[str, Any]) -> int:
    """The most that may arrive in a second, given how much the machine itself shook the arrivals.

    Slots are 1 / (0.97 x limit) apart, so up to 30 ms of shaking keep within the limit; a machine
    that stands still for longer, the receiver included, lets them arrive in a heap.
    """
    shaking: float = report["jitter"]["max"]
    return max(limit, math.floor((1 + 2 * shaking) * 0.97 * limit) + 1)


@pytest.mark.slow
async def test_two_daemons_together_keep_to_the_rate_of_the_number(scene: Scene):
    await scene.play("--pair-seconds", "0")
    await scene.daemon()
    await scene.enqueue(480)

    await scene.all_reach("read")
    report = await scene.report()

    assert report["accepted"] == 480
    assert report["peak_per_second"] <= fullest(80, report)


async def test_a_limit_that_is_changed_in_its_row_holds_at_once(scene: Scene):
    await scene.play("--messages-per-second", "40")
    await scene.fetch("update waemitter.channels set messages_per_second = 40")
    await scene.enqueue(60)

    await scene.all_reach("sent", "delivered", "read")

    report = await scene.report()
    assert report["accepted"] == 60
    assert report["peak_per_second"] <= fullest(40, report)


async def test_a_scheduled_message_leaves_on_time_and_not_before(scene: Scene):
    await scene.play()
    due = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=1.5)
    message_id = await scene.send("+14155550123", available_at=due)
    urgent = await scene.send("+14155550124")
    await scene.reaches(urgent, "read")
    assert (await scene.row(message_id))["status"] == "queued"

    row = await scene.reaches(message_id, "read")

    assert due <= row["claimed_at"]


async def test_messages_of_one_recipient_leave_in_order_and_one_at_a_time(scene: Scene):
    await scene.play("--no-statuses", "--latency", str(LATENCY), environ=UNLIMITED)
    await scene.fetch(
        """insert into waemitter.outbox_messages (recipient, message_type, payload)
           select '+14155550123', 'text', jsonb_build_object('text', jsonb_build_object('body', n::text))
           from generate_series(1, 20) n"""
    )

    await scene.all_reach("sent")
    arrived = await scene.accepted()
    in_order = await scene.fetch(
        "select whatsapp_message_id from waemitter.outbox_messages order by id"
    )

    assert [message["wamid"] for message in arrived] == [row[0] for row in in_order]
    gaps = [later["arrived"] - earlier["arrived"] for earlier, later in pairwise(arrived)]
    assert min(gaps) >= LATENCY


async def test_another_recipient_does_not_wait_for_a_lane_that_stands_still(scene: Scene):
    await scene.play(environ=UNLIMITED)
    await scene.options(error_mix={"131016": 1})
    stuck = await scene.send("+14155550123", "first", ordering_key="a")
    await until(lambda: _tried(scene, stuck))
    behind = await scene.send("+14155550123", "second", ordering_key="a")
    await scene.options(error_mix={})
    await scene.reaches(await scene.send("+14155550124"), "read")

    first, second = await scene.reaches(stuck, "read"), await scene.reaches(behind, "read")

    assert first["claimed_at"] < second["claimed_at"]


async def test_the_shortest_lease_that_the_settings_allow_is_long_enough(scene: Scene):
    await scene.play(environ={"WAEMITTER_OUTBOX__LEASE": "1.71s"})

    row = await scene.reaches(await scene.send("+14155550123"), "read")

    assert row["attempts"] == 1


async def test_a_higher_priority_overtakes(scene: Scene):
    await scene.play(environ={"WAEMITTER_CHANNEL__MESSAGES_PER_SECOND": "10"})
    await scene.enqueue(30)
    await scene.accepts(2)

    urgent = await scene.send("+14155559999", "your code", priority=10)
    row = await scene.reaches(urgent, "sent", "delivered", "read")
    before = [message["wamid"] for message in await scene.accepted()].index(
        row["whatsapp_message_id"]
    )

    assert before < 10


async def _tried(scene: Scene, message_id: int) -> bool:
    return (await scene.row(message_id))["error_code"] is not None


async def test_a_meta_stricter_than_the_limit_slows_the_number_and_costs_no_attempts(scene: Scene):
    await scene.play("--messages-per-second", "20", "--no-statuses")
    await scene.enqueue(60)

    await scene.all_reach("sent")

    assert (await scene.report())["refused_by_code"]["130429"] > 0
    assert await scene.value("select max(attempts) from waemitter.outbox_messages") == 1
    assert await scene.value("select throttle from waemitter.channels") < 1


PAIRS: Final = {
    **UNLIMITED,
    "WAEMITTER_CHANNEL__PAIR_SECONDS": "0.6s",
    "WAEMITTER_CHANNEL__PAIR_BURST": "3",
}
STRICT_PAIRS: Final = ("--pair-seconds", "0.6", "--pair-burst", "3", "--no-statuses")


async def test_a_recipient_gets_no_more_than_the_pair_limit_and_others_never_wait(scene: Scene):
    await scene.play(*STRICT_PAIRS, environ=PAIRS)
    for n in range(6):
        await scene.send("+14155550123", str(n))
    last = await scene.send("+14155550124")

    await scene.reaches(last, "sent")
    ada_has = (await scene.statuses())["sent"] - 1
    await scene.all_reach("sent")
    report = await scene.report()

    assert ada_has < 6
    assert report["accepted"] == 7
    assert report["refused_by_code"] == {}


async def test_a_stricter_meta_is_waited_out_and_costs_no_attempts(scene: Scene):
    await scene.play(*STRICT_PAIRS, environ=UNLIMITED)
    for n in range(6):
        await scene.send("+14155550123", str(n))

    await scene.all_reach("sent")
    in_order = await scene.fetch(
        "select whatsapp_message_id, attempts from waemitter.outbox_messages order by id"
    )

    assert (await scene.report())["refused_by_code"]["131056"] > 0
    assert [row["attempts"] for row in in_order] == [1] * 6
    assert [message["wamid"] for message in await scene.accepted()] == [
        row["whatsapp_message_id"] for row in in_order
    ]
