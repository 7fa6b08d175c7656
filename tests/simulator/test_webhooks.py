import asyncio
import json
from itertools import pairwise

import pytest

USER = "+15550101201"


async def test_statuses_come_in_order_with_our_data_and_a_price(client, meta, receiver):
    _, reply = await client.text(USER, biz_opaque_callback_data="ours")
    await meta.settle()
    assert [status["status"] for status in receiver.statuses] == ["sent", "delivered", "read"]
    for status in receiver.statuses:
        assert status["id"] == reply["messages"][0]["id"]
        assert status["recipient_id"] == "15550101201"
        assert status["biz_opaque_callback_data"] == "ours"
        assert status["timestamp"].isdigit()
    sent, _, read = receiver.statuses
    assert sent["pricing"] == {
        "billable": False,
        "pricing_model": "PMP",
        "type": "free_customer_service",
        "category": "service",
    }
    assert "pricing" not in read
    assert receiver.values()[0]["metadata"]["phone_number_id"] == client.number
    assert meta.ledger.report()["webhooks"] == {
        "sent": 3,
        "acked": 3,
        "failed": 0,
        "redelivered": 0,
        "given_up": 0,
    }


async def test_a_template_is_billed(client, meta, receiver):
    content = {"name": "sale", "language": {"code": "en"}}
    await client.control(
        "POST", "/templates", {"name": "sale", "language": "en", "category": "marketing"}
    )
    body = {"messaging_product": "whatsapp", "to": USER, "type": "template", "template": content}
    await client.post(body)
    await meta.settle()
    price = receiver.statuses[0]["pricing"]
    assert (price["billable"], price["category"]) == (True, "marketing")


async def test_a_webhook_is_redelivered_until_it_is_taken(client, meta, receiver):
    meta.configure(read_probability=0.0, delivered_delay=(30.0, 30.0))
    receiver.answers += [500, 204, 302]
    await client.text(USER)
    await receiver.until(lambda seen: len(seen.posts) == 4)
    assert len(set(receiver.raw)) == 1
    assert meta.ledger.webhooks.redelivered == 3
    assert meta.ledger.webhooks.failed == 3


async def test_waits_double_up_to_the_most(client, meta, receiver):
    meta.configure(webhook_retry_initial=0.02, webhook_retry_max=0.05, read_probability=0.0)
    meta.configure(delivered_delay=(30.0, 30.0))
    moments = []
    receiver.answers += [500] * 4
    loop = asyncio.get_running_loop()

    def noted(seen):
        moments.append(loop.time())
        return len(seen.posts) == 5

    await client.text(USER)
    await receiver.until(noted)
    gaps = [later - earlier for earlier, later in pairwise(moments)][-4:]
    for gap, least in zip(gaps, (0.02, 0.04, 0.05, 0.05), strict=True):
        assert gap >= least - 0.005


async def test_an_old_webhook_is_given_up(client, meta, receiver):
    meta.configure(webhook_retry_for=0.0)
    receiver.answers += [500, 500, 500]
    await client.text(USER)
    await meta.settle()
    assert meta.ledger.webhooks.given_up == 3


async def test_a_receiver_that_hangs_up_is_tried_again(client, meta, receiver):
    tries = asyncio.Semaphore(0)

    def hang_up(_, writer):
        tries.release()
        writer.close()

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as away:
        port = away.sockets[0].getsockname()[1]
        meta.configure(webhook_url=f"http://127.0.0.1:{port}/", read_probability=0.0)
        await client.text(USER)
        async with asyncio.timeout(10):
            for _ in range(4):
                await tries.acquire()
    meta.configure(webhook_url=receiver.url)
    await meta.settle()
    assert {status["status"] for status in receiver.statuses} == {"sent", "delivered"}
    assert meta.ledger.webhooks.failed >= 3


async def test_statuses_come_unordered_when_told_so_with_true_timestamps(client, meta, receiver):
    apart = (0.02, 0.02)
    meta.configure(reorder_webhooks=1.0, delivered_delay=apart, read_delay=apart)
    await client.text(USER)
    await meta.settle()
    words = [status["status"] for status in receiver.statuses]
    assert sorted(words) == ["delivered", "read", "sent"]
    assert words != ["sent", "delivered", "read"]


async def test_webhooks_come_twice_when_told_so(client, meta, receiver):
    meta.configure(duplicate_webhooks=1.0)
    await client.text(USER)
    await meta.settle()
    assert len(receiver.raw) == 6
    assert len(set(receiver.raw)) == 3


async def test_a_bad_signature_comes_before_a_good_one(client, meta, receiver):
    meta.configure(bad_signatures=1.0)
    await client.text(USER)
    await meta.settle()
    assert receiver.forged == 3
    assert len(receiver.statuses) == 3


async def test_updates_are_gathered_into_batches(client, meta, receiver):
    meta.configure(webhook_batch=4, webhook_batch_wait=0.2)
    async with asyncio.TaskGroup() as tasks:
        for index in range(4):
            tasks.create_task(client.text(f"+1555010120{index}"))
    await meta.settle()
    assert len(receiver.statuses) == 12
    assert [len(value["statuses"]) for value in receiver.values()] == [4, 4, 4]


async def test_read_may_come_without_delivered_and_may_stay_away(client, meta, receiver):
    meta.configure(skip_delivered=1.0)
    await client.text(USER)
    await meta.settle()
    assert [status["status"] for status in receiver.statuses] == ["sent", "read"]
    meta.configure(skip_delivered=0.0, read_probability=0.0)
    await client.text("+15550101202")
    await meta.settle()
    assert [status["status"] for status in receiver.statuses[2:]] == ["sent", "delivered"]


async def test_customers_write_back(client, meta, receiver):
    meta.configure(reply_probability=1.0)
    await client.text(USER)
    await meta.settle()
    (message,) = receiver.messages
    assert message["from"] == "15550101201"
    assert message["type"] == "text"
    assert message["text"]["body"]
    (contact,) = [c for value in receiver.values() for c in value.get("contacts", ())]
    assert contact["wa_id"] == "15550101201"
    assert contact["profile"]["name"]
    assert meta.ledger.report()["customer_messages"] == 1


async def test_what_is_not_ascii_travels_escaped(client, meta, receiver):
    await client.text(USER)
    meta.customer_writes(USER, "Grüße 🇩🇪", name="Élodie")
    await meta.settle()
    (raw,) = [body for body in receiver.raw if b'"messages"' in body and b'"text"' in body]
    assert raw.isascii()
    assert b"Gr\\u00fc\\u00dfe \\ud83c\\udde9\\ud83c\\uddea" in raw
    assert receiver.messages[0]["text"]["body"] == "Grüße 🇩🇪"


@pytest.mark.parametrize("changes", [{"statuses": False}, {"webhook_url": None}])
async def test_statuses_can_be_off(client, meta, receiver, changes):
    meta.configure(**changes)
    await client.text(USER)
    await meta.settle()
    assert receiver.posts == []


async def test_any_body_can_be_posted_signed_or_not(client, meta, receiver):
    body = {"object": "page", "entry": []}
    assert (await client.control("POST", "/webhook", {"body": body}))[0] == 200
    await client.control("POST", "/webhook", {"raw": json.dumps(body, indent=1)})
    await client.control("POST", "/webhook", {"body": body, "signed": False})
    await meta.settle()
    assert receiver.posts == [body, body, body]
    assert b"\n" in b"".join(receiver.raw)
    assert receiver.forged == 1
