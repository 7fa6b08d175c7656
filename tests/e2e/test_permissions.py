"""Who may be written to, with a daemon that sends and a Meta that answers."""

from __future__ import annotations

import aiohttp
import orjson

from tests.e2e.scene import Scene, until

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


async def test_a_customer_s_stop_ends_what_they_are_sent_and_is_confirmed(scene: Scene):
    await scene.play()
    customer = scene.graph_url.removesuffix("/v24.0") + "/_simulator/customers/messages"
    async with aiohttp.ClientSession() as session:
        number = await scene.value("select phone_number_id from waemitter.channels")
        said = {"from": "14155550123", "text": "STOP", "phone_number_id": number}
        async with session.post(customer, json=said) as answer:
            assert answer.status < 300, await answer.text()

    async def stopped() -> bool:
        return bool(await scene.value("select count(*) from waemitter.suppressions"))

    await until(stopped)
    after = await scene.send("+14155550123", "Our offers of the week")
    await scene.all_reach("read", "delivered", "sent", "suppressed")
    assert (await scene.row(after))["status"] == "suppressed"
    assert (await scene.report())["accepted"] == 1
