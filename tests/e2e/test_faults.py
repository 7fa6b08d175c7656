from __future__ import annotations

from collections import Counter

from tests.e2e.scene import NO_LIMITS, PROMPT, UNLIMITED, Scene, events, kill, metric, until
from tests.support import eventually

TOKEN = {"WHATSAPP_ACCESS_TOKEN": "good-token"}
CONFIRMED = 'waemitter_outbox_unconfirmed_total{resolution="confirmed"}'
HELD = 'waemitter_outbox_unconfirmed_total{resolution="held"}'


async def test_passing_errors_are_retried_until_every_message_is_sent(scene: Scene):
    await scene.play(
        *NO_LIMITS,
        *("--error-mix", "131016=0.1", "--error-mix", "2=0.1"),
        *("--html-5xx", "0.05", "--drop-before", "0.05", "--seed", "7"),
        environ=UNLIMITED
        | {"WAEMITTER_OUTBOX__MAX_ATTEMPTS": "20", "WAEMITTER_OUTBOX__UNCONFIRMED_GRACE": "1s"},
    )
    await scene.enqueue(300)

    await scene.all_reach("sent", "delivered", "read")
    report = await scene.report()
    retried = await scene.value(
        "select count(*) from waemitter.outbox_messages where attempts > 1 and error_code is null"
    )

    assert (report["distinct"], report["duplicates"]) == (300, 0)
    assert set(report["refused_by_code"]) == {"131016", "2"}
    assert retried > 30


async def test_a_lasting_error_fails_its_message_at_once_with_its_code(scene: Scene):
    daemon, _ = await scene.play()
    refused = await scene.send("+15550131009")
    later = await scene.send("+15550131026")
    good = await scene.send("+14155550123")

    refused_row = await scene.reaches(refused, "failed")
    later_row = await scene.reaches(later, "failed")
    await scene.reaches(good, "read")

    assert (refused_row["error_code"], refused_row["attempts"]) == (131009, 1)
    assert (later_row["error_code"], later_row["attempts"]) == (131026, 1)
    assert refused_row["error_message"]
    assert refused_row["failed_at"] >= refused_row["claimed_at"]
    [told] = events(daemon, "OUTBOX_FAILED_PERMANENTLY")
    assert (told["message_id"], told["error_code"]) == (refused, 131009)


async def test_a_passing_error_that_does_not_pass_fails_when_the_attempts_are_spent(scene: Scene):
    await scene.play("--error-mix", "131016=1", environ={"WAEMITTER_OUTBOX__MAX_ATTEMPTS": "2"})

    row = await scene.reaches(await scene.send("+14155550123"), "failed")

    assert (row["error_code"], row["attempts"]) == (131016, 3)
    assert (await scene.report())["refused_by_code"] == {"131016": 3}


async def test_a_bad_token_pauses_the_channel_and_costs_no_attempt(scene: Scene):
    daemon, address = await scene.play("--access-token", "another-token", environ=TOKEN)
    await scene.enqueue(30)
    await eventually(lambda: events(daemon, "CHANNEL_PAUSED"))
    [channel] = await scene.fetch(
        "select paused_until > now() as paused, pause_reason from waemitter.channels"
    )
    await until(
        lambda: scene.value(
            "select count(*) = 30 from waemitter.outbox_messages where status = 'queued'"
        )
    )
    tries = (await scene.report())["refused_by_code"]["190"]
    spent = await scene.value("select max(attempts) from waemitter.outbox_messages")
    shown = await metric(
        address, 'waemitter_channel_paused{channel="default",reason="pause_account"}'
    )

    await scene.options(access_token="good-token")
    await scene.fetch("update waemitter.channels set paused_until = null")
    await scene.all_reach("sent", "delivered", "read")

    assert channel["paused"]
    assert "PAUSE_ACCOUNT" in channel["pause_reason"]
    assert tries < 30  # the others were held back when the first had told
    assert spent == 0
    assert shown == 1
    assert (await scene.report())["duplicates"] == 0


async def test_a_throttled_number_waits_and_costs_no_attempt(scene: Scene):
    # Our limit is off, Meta's is not: so it refuses.
    await scene.play("--messages-per-second", "20", "--pair-seconds", "0", environ=UNLIMITED)
    await scene.enqueue(30)

    await scene.all_reach("sent", "delivered", "read")
    report = await scene.report()

    assert report["refused_by_code"]["130429"] > 0
    assert (report["distinct"], report["duplicates"]) == (30, 0)
    assert await scene.value("select max(attempts) from waemitter.outbox_messages") == 1


async def test_a_graph_api_that_is_away_for_a_while_loses_nothing(scene: Scene):
    _, address = await scene.play(
        environ={"WAEMITTER_OUTBOX__RETRY_DELAYS": "0.3", "WAEMITTER_OUTBOX__MAX_ATTEMPTS": "50"}
    )
    assert scene.simulator is not None
    await kill(scene.simulator)
    await scene.enqueue(20)
    await until(
        lambda: scene.value(
            "select bool_and(status = 'queued' and attempts > 0) from waemitter.outbox_messages"
        )
    )
    told = {
        row[0] for row in await scene.fetch("select error_message from waemitter.outbox_messages")
    }

    # Told from its start where statuses go: the first retry may come before anybody could tell it.
    webhook_url = f"{address}/webhooks/whatsapp"
    await scene.simulate(*PROMPT, "--port", str(scene.simulator_port), "--webhook-url", webhook_url)
    await scene.all_reach("read")

    assert all(told)
    assert (await scene.report())["accepted"] == 20


async def test_a_connection_cut_after_acceptance_is_resolved_by_the_status_and_never_doubled(
    scene: Scene,
):
    daemon, address = await scene.play("--drop-after", "1", *NO_LIMITS, environ=UNLIMITED)
    # Later than the cut, so that the row is seen to be unconfirmed.
    await scene.options(sent_delay=[0.3, 0.4])
    await scene.enqueue(50)

    await scene.all_reach("read")
    report = await scene.report()

    assert (report["accepted"], report["duplicates"]) == (50, 0)
    assert len(events(daemon, "OUTBOX_UNCONFIRMED")) == 50
    assert await metric(address, CONFIRMED) == 50
    assert await scene.value("select max(attempts) from waemitter.outbox_messages") == 1


async def test_without_statuses_the_policy_hold_never_sends_again(scene: Scene):
    _, address = await scene.play(
        *("--drop-after", "1", "--no-statuses"),
        environ={
            "WAEMITTER_OUTBOX__UNCONFIRMED_POLICY": "hold",
            "WAEMITTER_OUTBOX__UNCONFIRMED_GRACE": "0.5s",
        },
    )
    message_id = await scene.send("+14155550123")
    await until(lambda: metric(address, HELD))
    held = await scene.row(message_id)
    accepted = (await scene.report())["accepted"]

    await scene.options(drop_after=0)
    by_hand = await scene.command("outbox", "retry", str(message_id))
    again = await scene.reaches(message_id, "sent")

    assert (held["status"], held["hold"], accepted) == ("unconfirmed", "unconfirmed", 1)
    assert by_hand.code == 0
    assert again["attempts"] == 1
    assert (await scene.report())["accepted"] == 2


async def test_under_retry_a_message_without_a_status_is_sent_again_where_statuses_are_known_to_come(
    scene: Scene,
):
    await scene.play(environ={"WAEMITTER_OUTBOX__UNCONFIRMED_GRACE": "0.5s"})
    await scene.reaches(await scene.send("+14155550123", "one"), "read")
    await scene.options(drop_before=1)
    lost = await scene.send("+14155550123", "two")
    await scene.reaches(lost, "unconfirmed")
    await scene.options(drop_before=0)

    # Meta tells whole seconds: the last status may look older than so short a grace, and Meta's clock is then waited for, up to
    # fifteen seconds.
    row = await scene.reaches(lost, "read", within=40)

    assert row["attempts"] == 2
    assert Counter(m["to"] for m in await scene.accepted()) == {"14155550123": 2}
