from __future__ import annotations

import asyncio
from pathlib import Path

import orjson

from tests.e2e.scene import Scene, command
from waemitter import __version__

NOBODY = "9"  # a port that nobody listens on


async def test_send_follows_a_message_to_its_end(scene: Scene):
    await scene.play("--read-probability", "0")

    delivered, failed, nonsense = await asyncio.gather(
        scene.command("send", "+14155550123", "--text", "Hello", "--wait"),
        scene.command("send", "+15550131009", "--text", "Hello", "--wait"),
        scene.command("send", "Bob", "--text", "Hello", "--wait"),
    )

    assert (delivered.code, delivered.json()["status"]) == (0, "delivered")
    assert delivered.json()["whatsapp_message_id"].startswith("wamid.")
    assert (failed.code, failed.json()["error_code"]) == (1, 131009)
    assert (nonsense.code, len(nonsense.complaints)) == (2, 1)
    assert "recipient" in nonsense.complaints[0]
    assert (await scene.report())["accepted"] == 1


async def test_send_without_waiting_queues_once_for_each_idempotency_key(scene: Scene):
    scene.graph_url = "http://127.0.0.1:9/v24.0"
    once = ("send", "+14155550123", "--text", "Hello", "--idempotency-key", "order-17")

    first, again = await scene.command(*once), await scene.command(*once)

    assert first.code == again.code == 0
    assert first.json() == again.json()
    assert await scene.value("select count(*) from waemitter.outbox_messages") == 1


async def test_send_takes_a_template_and_a_payload_from_a_file(scene: Scene, tmp_path: Path):
    await scene.play()
    file = tmp_path / "image.json"
    file.write_text('{"type": "image", "image": {"link": "https://example.com/a.png"}, "to": "x"}')

    results = await asyncio.gather(
        scene.command("send", "+14155550123", "--json", str(file), "--wait"),
        scene.command("send", "+14155550124", "--template", "shipped", "--param", "17", "--wait"),
        scene.command("send", "+14155550125", "--wait"),
    )

    assert [result.code for result in results] == [0, 0, 2]
    assert (await scene.report())["by_type"] == {"image": 1, "template": 1}


async def test_the_outbox_can_be_looked_into_and_steered(scene: Scene):
    waiting = await scene.send("+14155550123", "waits")
    await scene.fetch(
        "update waemitter.outbox_messages set available_at = now() + interval '1 hour'"
    )
    await scene.play()
    failed = await scene.send("+15550131009", "fails")
    await scene.reaches(failed, "failed")

    listed, shown, nowhere, cancelled = await asyncio.gather(
        scene.command("outbox", "list", "--status", "failed", "--json"),
        scene.command("outbox", "show", str(failed), "--json"),
        scene.command("outbox", "show", "4711"),
        scene.command("outbox", "cancel", str(waiting), "--json"),
    )

    assert [row["id"] for row in listed.json()] == [failed]
    assert shown.json()["error_code"] == 131009
    assert shown.json()["events"][-1]["to_status"] == "failed"
    assert (nowhere.code, nowhere.complaints) == (1, ["waemitter: there is no message 4711"])
    assert cancelled.json() == {"asked": 1, "changed": [waiting]}

    await scene.options(error_recipients=False)
    retried, too_late = await asyncio.gather(
        scene.command("outbox", "retry", "--all-matching", "--error-code", "131009", "--json"),
        scene.command("outbox", "cancel", str(waiting)),
    )
    await scene.reaches(failed, "read")

    assert retried.json() == {"asked": 1, "changed": [failed]}
    assert (too_late.code, len(too_late.complaints)) == (1, 1)
    assert (await scene.row(waiting))["status"] == "cancelled"


async def test_health_check_and_settings_tell_the_truth(scene: Scene):
    _, address = await scene.play()
    port = {"WAEMITTER_HTTP__PORT": address.rpartition(":")[2]}

    live, ready, dead, checked, status = await asyncio.gather(
        scene.command("healthcheck", environ=port),
        scene.command("healthcheck", "--ready", environ=port),
        scene.command("healthcheck", environ={"WAEMITTER_HTTP__PORT": NOBODY}),
        scene.command("check", "--json"),
        scene.command("schema", "status", "--json"),
    )

    assert (live.code, live.json()["status"]) == (0, "ok")
    assert (ready.code, ready.json()["status"]) == (0, "ok")
    assert (dead.code, len(dead.complaints)) == (1, 1)
    lease = checked.json()["settings"]["outbox.lease"]
    assert lease["origin"] == "environment WAEMITTER_OUTBOX__LEASE"
    assert "simulated" not in checked.out
    assert (status.code, status.json()["ok"]) == (0, True)


async def test_the_version_is_the_packages():
    assert (await command("version")).out.strip() == __version__


async def test_a_dry_run_marks_rows_and_sends_nothing(scene: Scene):
    await scene.play(environ={"WAEMITTER_OUTBOX__SEND_ENABLED": "false"})
    await scene.enqueue(20)
    bad = await scene.send("Bob", "even a dry run sees that")

    await scene.reaches(bad, "failed")
    await scene.all_reach("sent", "failed")
    rows = await scene.fetch("select dry_run, status from waemitter.outbox_messages")

    assert [tuple(row) for row in rows].count((True, "sent")) == 20
    assert (await scene.report())["arrivals"] == 0
    waited = await scene.command("send", "+14155550123", "--text", "Hello", "--wait")
    assert (waited.code, waited.json()["dry_run"]) == (0, True)


async def test_the_simulator_tells_what_it_saw_when_it_ends(scene: Scene):
    await scene.play()
    await scene.reaches(await scene.send("+14155550123"), "read")
    assert scene.simulator is not None

    assert await scene.simulator.stop() == 0

    drained = orjson.loads(scene.simulator.lines[-1])
    assert (drained["event"], drained["settled"]) == ("SIMULATOR_DRAINED", True)
    assert drained["report"]["accepted"] == 1
