from __future__ import annotations

import asyncio
import hashlib
import hmac
from pathlib import Path

import aiohttp
import orjson
import pytest

from tests.e2e.scene import NO_LIMITS, UNLIMITED, Scene, get, kill, metric, post, until
from waemitter.db.embedded import EmbeddedPostgres
from waemitter.ops.stage import APP_SECRET, NUMBER_ID, VERIFY_TOKEN

PAYLOADS = Path(__file__).parent.parent / "payloads"
BODY = b'{"object": "whatsapp_business_account", "entry": []}'
STORED = "select count(*) from waemitter.webhook_logs"
KEPT = "select count(*) from waemitter.inbound_messages"
UNPROCESSED = "select count(*) from waemitter.webhook_logs where processed_at is null"


def signed(body: bytes, secret: str = APP_SECRET) -> str:
    return "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


async def test_only_what_is_signed_and_sound_is_stored(scene: Scene):
    _, address = await scene.daemon({"WHATSAPP_APP_SECRET": "the-new-one,the-old-one"})
    url = f"{address}/webhooks/whatsapp"
    huge = b'{"x": "' + b"x" * (3 * 1024 * 1024) + b'"}'

    answers = {
        "unsigned": await post(url, BODY),
        "signed by a stranger": await post(url, BODY, X_Hub_Signature_256=signed(BODY)),
        "no signature at all": await post(url, BODY, X_Hub_Signature_256="sha256=nonsense"),
        "too large": await post(url, huge, X_Hub_Signature_256=signed(huge, "the-new-one")),
        "no JSON": await post(url, b"{", X_Hub_Signature_256=signed(b"{", "the-new-one")),
        "no object": await post(url, b"[]", X_Hub_Signature_256=signed(b"[]", "the-new-one")),
        "the new secret": await post(url, BODY, X_Hub_Signature_256=signed(BODY, "the-new-one")),
        "the old secret": await post(url, BODY, X_Hub_Signature_256=signed(BODY, "the-old-one")),
    }

    assert answers == {
        "unsigned": 401,
        "signed by a stranger": 401,
        "no signature at all": 401,
        "too large": 413,
        "no JSON": 400,
        "no object": 400,
        "the new secret": 200,
        "the old secret": 200,
    }
    assert await scene.value(STORED) == 2
    refused = 'waemitter_webhook_requests_total{result="bad_signature",source="whatsapp"}'
    assert await metric(address, refused) == 2


async def test_the_handshake_repeats_the_challenge_to_who_knows_the_word(scene: Scene):
    _, address = await scene.daemon()
    hub = f"{address}/webhooks/whatsapp?hub.mode=subscribe&hub.challenge=4711"

    assert await get(f"{hub}&hub.verify_token={VERIFY_TOKEN}") == (200, "4711")
    assert (await get(f"{hub}&hub.verify_token=guessed"))[0] == 403


async def test_every_payload_known_of_meta_is_taken_and_worked_off(scene: Scene):
    daemon, address = await scene.daemon()
    bodies = [
        path.read_bytes()
        for path in sorted(PAYLOADS.glob("*.json"))
        if path.name.startswith(("msg_", "status_", "field_", "batch_", "value_"))
    ]
    bodies.append(b'{"entry": [{"changes": [{"value": {"statuses": [{"id": 1}, "x", null]}}]}]}')
    bodies.append(b'{"entry": "\\u0000"}')

    for body in bodies:
        status = await post(f"{address}/webhooks/whatsapp", body, X_Hub_Signature_256=signed(body))
        assert status == 200

    await until(lambda: _none(scene, UNPROCESSED))
    assert await scene.value(STORED) == len(bodies) > 60
    assert daemon.process.returncode is None


async def test_what_customers_wrote_is_there_once_though_the_daemon_is_killed_at_it(scene: Scene):
    killed, address = await scene.daemon()
    metadata = {"phone_number_id": NUMBER_ID}
    bodies: list[bytes] = []

    def said() -> bytes:
        message = {"id": f"wamid.{len(bodies)}", "from": "14155550123", "type": "text"}
        value = {"metadata": metadata, "messages": [message]}
        bodies.append(orjson.dumps({"entry": [{"id": "1", "changes": [{"value": value}]}]}))
        return bodies[-1]

    async def deliver(body: bytes) -> bool:
        try:
            url = f"{address}/webhooks/whatsapp"
            return await post(url, body, X_Hub_Signature_256=signed(body)) == 200
        except aiohttp.ClientError:
            return False

    async def keep_saying() -> int:
        """Until one got no 200, which is when the daemon is gone; how many did."""
        acknowledged = 0
        while await deliver(said()):
            acknowledged += 1
        return acknowledged

    saying = [asyncio.create_task(keep_saying()) for _ in range(32)]
    await until(lambda: _some(scene, KEPT))
    await kill(killed)
    assert any(await asyncio.gather(*saying))
    _, address = await scene.daemon()
    await scene.fetch(
        "update waemitter.webhook_logs set available_at = now() where available_at > now() returning id"
    )
    again = await asyncio.gather(
        *(deliver(body) for body in bodies)
    )  # as Meta would, for lack of a 200
    assert all(again)

    await until(lambda: _none(scene, UNPROCESSED))
    assert await scene.value(KEPT) == len(bodies)
    assert await scene.value(
        "select count(distinct whatsapp_message_id) from waemitter.inbound_messages"
    ) == len(bodies)
    assert await scene.value("select count(*) from waemitter.conversations") == 1


async def test_while_postgres_is_down_meta_is_told_to_come_again_and_each_status_counts_once(
    own_scene: Scene, own_postgres: EmbeddedPostgres
):
    _, address = await own_scene.play(*NO_LIMITS, environ=UNLIMITED)
    # The statuses come when the database is gone.
    await own_scene.options(sent_delay=[0.5, 0.6])
    await own_scene.enqueue(40)
    await own_scene.all_reach("sent")
    await asyncio.to_thread(own_postgres.stop, "immediate")
    url = f"{address}/webhooks/whatsapp"
    await until(lambda: _answers(url, 503))
    ready = await until(lambda: _not_ready(address))
    await until(lambda: _refused(own_scene))
    await asyncio.to_thread(own_postgres.start)

    await own_scene.all_reach("read")
    report = await own_scene.report()

    assert '"database"' in ready
    assert report["webhooks"]["redelivered"] > 0
    assert report["duplicates"] == 0
    applied = 'waemitter_status_updates_total{result="applied",status="read"}'
    assert await metric(address, applied) == 40
    await until(lambda: _ready(address))


async def test_a_status_that_overtakes_the_answer_to_its_own_message_counts(scene: Scene):
    daemon, _ = await scene.play("--latency", "0.4")
    message_id = await scene.send("+14155550123")

    early = await scene.reaches(message_id, "read")
    assert await daemon.stop() == 0  # by now the answer has been written too

    settled = await scene.row(message_id)
    [accepted] = await scene.accepted()
    assert early["whatsapp_message_id"] == settled["whatsapp_message_id"] == accepted["wamid"]
    assert (settled["status"], settled["attempts"], settled["error_code"]) == ("read", 1, None)


async def test_statuses_twice_and_in_any_order_lead_to_the_right_end(scene: Scene):
    _, address = await scene.play(
        *NO_LIMITS,
        *("--duplicate-webhooks", "1", "--reorder-webhooks", "1", "--bad-signatures", "0.2"),
        environ=UNLIMITED,
    )
    await scene.enqueue(200)
    failing = [await scene.send(f"+1555{n}131026") for n in range(10, 15)]

    await until(lambda: _nothing_pending(scene))
    await until(lambda: _none(scene, UNPROCESSED))

    assert await scene.statuses() == {"read": 200, "failed": 5}
    rows = await scene.fetch(
        """select id, sent_at, delivered_at, read_at from waemitter.outbox_messages
           where status = 'read' and not (sent_at < delivered_at and delivered_at < read_at)"""
    )
    assert not rows, rows
    for message_id in failing:
        assert (await scene.row(message_id))["error_code"] == 131026
    assert await metric(address, 'waemitter_status_updates_total{result="stale",status="read"}') > 0


@pytest.mark.parametrize("prefix", ["/functions/v1"])
async def test_the_older_addresses_answer_too(scene: Scene, prefix: str):
    _, address = await scene.daemon()

    for path in ("/wa-webhook-core", "/api/webhooks/whatsapp/status", "/webhooks/whatsapp"):
        url = f"{address}{prefix}{path}"
        assert await post(url, BODY, X_Hub_Signature_256=signed(BODY)) == 200


async def _some(scene: Scene, count: str) -> bool:
    return bool(await scene.value(count))


async def _none(scene: Scene, count: str) -> bool:
    return bool(await scene.value(count) == 0)


async def _answers(url: str, status: int) -> bool:
    return await post(url, BODY, X_Hub_Signature_256=signed(BODY)) == status


async def _not_ready(address: str) -> str | None:
    status, text = await get(f"{address}/health/ready")
    return text if status == 503 else None


async def _ready(address: str) -> bool:
    return (await get(f"{address}/health/ready"))[0] == 200


async def _refused(scene: Scene) -> bool:
    failed: int = (await scene.report())["webhooks"]["failed"]
    return failed >= 40


async def _nothing_pending(scene: Scene) -> bool:
    report = await scene.report()
    return (report["accepted"], report["pending_webhooks"]) == (205, 0)
