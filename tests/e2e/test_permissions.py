"""Who may be written to, with a daemon that sends and a Meta that answers."""

from __future__ import annotations

import orjson

from tests.e2e.scene import Scene

SHIPPED = {"name": "shipped", "language": {"code": "en_US"}}


async def test_outside_the_window_a_message_leaves_as_its_template_or_fails(scene: Scene):
    await scene.play(
        "--read-probability", "1", environ={"WAEMITTER_CHANNEL__WINDOW_POLICY": "template"}
    )
    insert = (
        "insert into waemitter.outbox_messages (recipient, message_type, payload)"
        " values ($1, 'text', $2) returning id"
    )
    text = {"text": {"body": "Still there?"}}
    both = orjson.dumps({**text, "fallback_template": SHIPPED}).decode()

    named = await scene.value(insert, "+14155550123", both)
    bare = await scene.value(insert, "+14155550124", orjson.dumps(text).decode())
    at_once = await scene.send("+14155550125")

    await scene.all_reach("failed", "read")
    assert (await scene.row(named))["status"] == "read"
    for message in (bare, at_once):
        row = await scene.row(message)
        assert (row["status"], row["error_code"]) == ("failed", 131047)
    assert (await scene.report())["by_type"] == {"template": 1}
