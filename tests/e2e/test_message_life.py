from __future__ import annotations

import datetime

from tests.e2e.scene import NO_LIMITS, UNLIMITED, Scene, events, get, until
from waemitter.ops.stage import APP_SECRET

PHONE = "14155550123"
CUSTOMER = "14155550199"
BODY = "Your parcel waits at the corner"
ANSWER = "thank you so much"
TOKEN = "EAAGe2eTestTokenNobodyShouldEverRead"


async def test_a_row_is_sent_delivered_and_read_and_everything_tells_of_it(scene: Scene):
    daemon, address = await scene.play()
    message_id = await scene.send(f"+{PHONE}", BODY, correlation_id="order-17")

    row = await scene.reaches(message_id, "read")
    [accepted] = await scene.accepted()
    steps = await scene.fetch(
        "select from_status, to_status from waemitter.outbox_events where message_id = $1 order by at",
        message_id,
    )
    [sent] = events(daemon, "OUTBOX_MESSAGE_SENT")
    _, metrics = await get(f"{address}/metrics")

    assert row["whatsapp_message_id"] == accepted["wamid"]
    assert (row["attempts"], row["error_code"], row["dry_run"]) == (1, None, False)
    assert row["created_at"] <= row["sent_at"]
    assert row["pricing_category"] == "service"
    assert [tuple(step) for step in steps] == [
        ("sending", "sent"),
        ("sent", "delivered"),
        ("delivered", "read"),
    ]
    assert (sent["message_id"], sent["correlation_id"]) == (message_id, "order-17")
    assert 'waemitter_outbox_sends_total{channel="default",outcome="sent"} 1.0' in metrics
    assert 'waemitter_status_updates_total{result="applied",status="read"} 1.0' in metrics
    assert "waemitter_outbox_pickup_latency_seconds_count 1.0" in metrics


async def test_an_idle_daemon_sends_a_row_within_a_moment_of_its_commit(scene: Scene):
    await scene.play()

    ids = []
    for n in range(10):
        ids.append(await scene.send(f"+1415555020{n}", "now"))
        await scene.reaches(ids[-1], "sent", "delivered", "read")
    waits = sorted(
        [(await scene.row(n))["claimed_at"] - (await scene.row(n))["created_at"] for n in ids]
    )

    # A sweep comes once a minute and a patrol needs load: this was the bell.
    assert waits[len(waits) // 2] < datetime.timedelta(seconds=0.1)


async def test_no_log_line_holds_a_number_a_body_or_a_secret(scene: Scene):
    daemon, _ = await scene.play(
        *("--access-token", TOKEN, "--latency", "0.01"),
        environ={"WHATSAPP_ACCESS_TOKEN": TOKEN, "WAEMITTER_LOGGING__LEVEL": "debug"},
    )
    read = await scene.send(f"+{PHONE}", BODY)
    refused = await scene.send("+15550131009", BODY)
    undelivered = await scene.send("+15550131026", BODY)
    nobody = await scene.send("Bob from 14155550777", BODY)
    await scene.options(drop_after=1)
    cut = await scene.send("+14155550888", BODY)
    await scene.reaches(cut, "sent", "delivered", "read")
    await scene.options(drop_after=0)
    await scene.control("POST", "customers/messages", {"from": CUSTOMER, "text": ANSWER})
    wamid = (await scene.reaches(read, "read"))["whatsapp_message_id"]
    for message_id in (refused, undelivered, nobody):
        await scene.reaches(message_id, "failed")
    await until(
        lambda: scene.value(
            "select count(*) = 0 from waemitter.webhook_logs where processed_at is null"
        )
    )
    assert await daemon.stop() == 0

    said = "\n".join(daemon.lines)

    assert {"OUTBOX_FAILED_PERMANENTLY", "OUTBOX_UNCONFIRMED", "WEBHOOK_PROCESSED"} <= {
        line["event"] for line in daemon.events
    }
    for secret in (
        *(PHONE, CUSTOMER, "15550131009", "15550131026", "14155550777", "14155550888"),
        *(BODY, ANSWER, TOKEN, APP_SECRET, wamid, scene.dsn),
    ):
        assert secret not in said


async def test_every_line_of_a_busy_daemon_is_json_with_the_same_first_keys(scene: Scene):
    daemon, _ = await scene.play(*NO_LIMITS, environ=UNLIMITED)
    await scene.enqueue(200)
    await scene.all_reach("read")
    assert await daemon.stop() == 0

    assert len(daemon.lines) == len(daemon.events)
    assert len(events(daemon, "OUTBOX_MESSAGE_SENT")) == 200
    for line in daemon.events:
        assert list(line)[:3] == ["timestamp", "level", "event"]
        assert line["event"] == line["event"].upper()
        assert line["msg"]
