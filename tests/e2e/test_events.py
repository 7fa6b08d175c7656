"""Events out of a daemon that is killed meanwhile: none is lost, and a subject's come in their order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.e2e.scene import Scene, kill, until
from tests.receiving_events import HANGS, SECRET, receiver
from waemitter.ops.stage import NUMBER_ID

CONFIG = """
[events.shop]
types = ["*"]
webhook = "{url}"
secret_env = "SHOP_SECRET"

[[routes]]
name = "all"
fallback = true
handler = "reply"
text = "Thank you"

[inbox]
buffer_mode = "off"
"""
LIFE = ["message.sent", "message.delivered", "message.read"]
WAITING = "select count(*) from waemitter.event_outbox where available_at is not null"
LEASES_END = """
    update waemitter.event_outbox set available_at = clock_timestamp() where available_at < 'infinity'
"""


async def test_a_killed_daemon_loses_no_event_and_keeps_their_order(
    scene: Scene, tmp_path: Path
) -> None:
    swallowed: list[dict[str, Any]] = []

    def answer(event: dict[str, Any]) -> int:
        if running.process.returncode is None and len(swallowed) < 16:
            swallowed.append(event)  # the daemon waits for answers when it is killed
            return HANGS
        return 204

    async with receiver(answer) as received:
        config = tmp_path / "waemitter.toml"
        config.write_text(CONFIG.format(url=received.url))
        environ = {"WAEMITTER_CONFIG": str(config), "SHOP_SECRET": SECRET}
        running, _ = await scene.play("--pair-seconds", "0", environ=environ)
        await scene.enqueue(20)
        said = {"from": "+15550101201", "text": "Hi", "phone_number_id": NUMBER_ID}
        await scene.control("POST", "customers/messages", said)
        await until(lambda: _true(len(swallowed) == 16))
        await scene.all_reach("sent", "delivered", "read")
        await kill(running)
        _, address = await scene.daemon(environ)
        await scene.announce(address)
        await scene.all_reach("read")
        await scene.fetch(LEASES_END)
        await scene.fetch("select pg_notify('waemitter_events', '')")
        await until(lambda: _no(scene.value(WAITING)), within=30)

    subjects = {event["subject"] for event in received.taken}
    assert {subject for subject in subjects if subject.startswith("messages/")} == {
        f"messages/{message}" for message in range(1, 22)
    }
    for subject in subjects - {"conversations/1"}:
        assert list(dict.fromkeys(received.types(subject))) == LIFE, subject
    assert received.types("conversations/1") == ["message.received", "turn.completed"]
    taken = {event["id"] for event in received.taken}
    assert all(event["id"] in taken for event in swallowed)  # again, and under their ids


async def _true(value: bool) -> bool:  # noqa: FBT001
    return value


async def _no(value: Any) -> bool:
    return not await value
