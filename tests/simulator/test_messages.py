import asyncio

import aiohttp
import pytest

USER = "+15550101201"


def template(name="order", language="en_US", *texts):
    parameters = [{"type": "text", "text": text} for text in texts]
    content = {
        "name": name,
        "language": {"code": language},
        "components": [{"type": "body", "parameters": parameters}],
    }
    return {"messaging_product": "whatsapp", "to": USER, "type": "template", "template": content}


def code(answer):
    return answer[1]["error"]["code"]


async def test_an_accepted_text_is_answered_and_entered(client, meta):
    status, reply = await client.text("+1 (555) 010-1201", biz_opaque_callback_data="ours")
    assert status == 200
    assert reply["messaging_product"] == "whatsapp"
    assert reply["contacts"] == [{"input": "+1 (555) 010-1201", "wa_id": "15550101201"}]
    (row,) = meta.ledger.rows()
    assert reply["messages"] == [{"id": row.wamid}]
    assert (row.to, row.type, row.opaque) == ("15550101201", "text", "ours")


async def test_the_version_is_optional_and_metas_headers_are_there(client, meta):
    url = f"{meta.address}/{client.number}/messages"
    body = {"messaging_product": "whatsapp", "to": USER, "text": {"body": "hi"}}
    async with client.session.post(url, json=body, params={"access_token": "t"}) as reply:
        assert reply.status == 200
        assert reply.headers["facebook-api-version"] == "v24.0"
        assert reply.headers["x-fb-trace-id"]
        assert '"type":"whatsapp"' in reply.headers["x-business-use-case-usage"]
    async with client.session.get(f"{meta.address}/v19.0/nobody") as reply:
        assert reply.headers["facebook-api-version"] == "v19.0"


async def test_tokens(client, meta):
    body = {"messaging_product": "whatsapp", "to": USER, "text": {"body": "hi"}}
    path = f"/{client.number}/messages"
    status, reply = await client.call("POST", path, token=None, json=body)
    assert (status, reply["error"]["code"]) == (401, 104)
    meta.configure(access_token="right")
    assert (await client.call("POST", path, token="right", json=body))[0] == 200
    status, reply = await client.call("POST", path, token="wrong", json=body)
    assert (status, reply["error"]["code"]) == (401, 190)
    assert len(meta.ledger) == 1


async def test_a_number_that_does_not_exist(client, meta):
    meta.configure(phone_number_ids=("1",))
    status, reply = await client.text(USER)
    assert status == 400
    assert reply["error"]["type"] == "GraphMethodException"
    assert (reply["error"]["code"], reply["error"]["error_subcode"]) == (100, 33)


async def test_what_is_not_json_is_a_bad_parameter(client):
    answer = await client.call("POST", f"/{client.number}/messages", data=b"{")
    assert (answer[0], code(answer)) == (400, 100)


async def test_a_path_that_leads_nowhere(client):
    answer = await client.call("POST", "/a/b/c", json={})
    assert (answer[0], code(answer)) == (400, 2500)


async def test_throughput_is_a_strict_second_for_each_number(client, meta):
    meta.configure(messages_per_second=3)
    answers = [await client.text(f"+1555010{index:04}") for index in range(4)]
    assert [status for status, _ in answers] == [200, 200, 200, 400]
    assert code(answers[3]) == 130429
    report = meta.ledger.report()
    assert report["refused_by_code"] == {"130429": 1}
    assert (report["peak_per_second"], report["over_limit"]) == (4, 1)
    other = {"messaging_product": "whatsapp", "to": USER, "text": {"body": "hi"}}
    assert (await client.post(other, "/111000111/messages"))[0] == 200


async def test_inbound_uses_throughput_when_told_so(client, meta, receiver):
    meta.configure(messages_per_second=2, count_inbound=True)
    await client.text(USER)
    meta.customer_writes("15550101201", "hello")
    await receiver.until(lambda seen: seen.messages)
    assert code(await client.text("+15550101202")) == 130429


async def test_a_pair_has_a_limit_of_its_own_and_its_status_may_be_429(client, meta):
    meta.configure(pair_burst=2, throttle_http_status=429)
    answers = [await client.text(USER, str(index)) for index in range(3)]
    assert [status for status, _ in answers] == [200, 200, 429]
    assert code(answers[2]) == 131056
    assert (await client.text("+15550101202"))[0] == 200


async def test_magic_recipients_fail_at_once_or_by_webhook(client, meta, receiver):
    answer = await client.text("+1555131031")
    assert (answer[0], code(answer)) == (403, 131031)
    status, _ = await client.text("+1555131026", biz_opaque_callback_data="ours")
    assert status == 200
    await meta.settle()
    (failed,) = receiver.statuses
    assert failed["status"] == "failed"
    assert failed["biz_opaque_callback_data"] == "ours"
    assert failed["errors"][0]["code"] == 131026
    assert failed["errors"][0]["title"] == "Message undeliverable"
    report = meta.ledger.report()
    assert report["failed_by_code"] == {"131026": 1}
    assert report["refused_by_code"] == {"131031": 1}
    meta.configure(error_recipients=False)
    assert (await client.text("+1555131031"))[0] == 200


async def test_an_error_mix_of_one_refuses_everything(client, meta):
    meta.configure(error_mix={131016: 1.0})
    answer = await client.text(USER)
    assert (answer[0], code(answer)) == (500, 131016)


async def test_templates_are_free_until_declared(client):
    status, reply = await client.post(template())
    assert status == 200
    assert reply["messages"][0]["message_status"] == "accepted"
    await client.control(
        "POST", "/templates", {"name": "order", "language": "en_US", "parameters": {"body": 1}}
    )
    answer = await client.post(template())
    assert code(answer) == 132000
    assert "body: number of localizable_params (0)" in answer[1]["error"]["error_data"]["details"]
    answer = await client.post(template("order", "de", "17"))
    assert (answer[0], code(answer)) == (404, 132001)
    assert (await client.post(template("order", "en_US", "17")))[0] == 200


@pytest.mark.parametrize(
    ("state", "expected"), [("paused", 132015), ("disabled", 132016), ("rejected", 132001)]
)
async def test_templates_that_cannot_be_used(client, state, expected):
    declared = {"name": "order", "language": "en_US", "status": state}
    await client.control("POST", "/templates", declared)
    assert code(await client.post(template())) == expected


@pytest.mark.parametrize(("verdict", "word"), [("approved", "sent"), ("paused", "failed")])
async def test_held_messages_wait_for_the_verdict(client, meta, receiver, verdict, word):
    declared = {"name": "order", "language": "en_US", "status": "held"}
    await client.control("POST", "/templates", declared)
    status, reply = await client.post(template())
    assert status == 200
    assert reply["messages"][0]["message_status"] == "held_for_quality_assessment"
    await meta.settle()
    assert receiver.statuses == []
    await client.control("POST", "/templates", {**declared, "status": verdict})
    await meta.settle()
    assert receiver.statuses[0]["status"] == word


async def test_the_service_window_when_enforced(client, meta, receiver):
    meta.configure(enforce_window=True)
    await client.text(USER)
    await meta.settle()
    assert receiver.statuses[0]["errors"][0]["code"] == 131047
    meta.customer_writes(USER, "hello")
    await meta.settle()
    await client.text(USER, "welcome")
    await meta.settle()
    assert receiver.statuses[-1]["status"] == "read"
    meta.configure(window_seconds=0.0)
    await client.text(USER, "too late")
    await meta.settle()
    assert receiver.statuses[-1]["status"] == "failed"


async def test_user_ids_and_groups(client, meta, receiver):
    text = {"messaging_product": "whatsapp", "text": {"body": "hi"}}
    _, reply = await client.post({**text, "recipient": "US.134912"})
    assert reply["contacts"] == [{"input": "US.134912", "user_id": "US.134912"}]
    await meta.settle()
    assert receiver.statuses[0]["recipient_user_id"] == "US.134912"
    assert "recipient_id" not in receiver.statuses[0]
    assert receiver.values()[0]["contacts"][0]["user_id"] == "US.134912"
    _, reply = await client.post({**text, "recipient_type": "group", "to": "Y2FwaQ"})
    assert reply["messages"][0]["group_id"] == "Y2FwaQ"
    await meta.settle()
    delivered = [
        status["recipient_participant_id"]
        for status in receiver.statuses
        if status["status"] == "delivered" and status.get("recipient_type") == "group"
    ]
    assert len(set(delivered)) == 3


async def test_read_receipts_and_typing_are_no_messages(client, meta):
    read = {"messaging_product": "whatsapp", "status": "read", "message_id": "wamid.x"}
    assert await client.post(read) == (200, {"success": True})
    typing = {**read, "typing_indicator": {"type": "text"}}
    assert await client.post(typing) == (200, {"success": True})
    assert code(await client.post({**read, "message_id": None})) == 131008
    report = meta.ledger.report()
    assert report["marked"] == {"read": 2, "typing": 1}
    assert (report["accepted"], report["arrivals"]) == (0, 0)


async def test_latency_delays_the_reply_and_a_status_may_overtake_it(client, meta, receiver):
    meta.configure(latency=30.0)
    async with asyncio.TaskGroup() as tasks:
        sending = tasks.create_task(client.text(USER))
        await receiver.until(lambda seen: seen.statuses)
        assert not sending.done()
        sending.cancel()
    assert len(meta.ledger) == 1


async def test_media_from_upload_to_deletion(client, meta):
    form = aiohttp.FormData()
    form.add_field("messaging_product", "whatsapp")
    form.add_field("file", b"%PDF-1.7", filename="a.pdf", content_type="application/pdf")
    _, uploaded = await client.call("POST", f"/{client.number}/media", data=form)
    media_id = uploaded["id"]
    _, described = await client.call("GET", f"/{media_id}")
    assert described["mime_type"] == "application/pdf"
    assert described["file_size"] == 8
    assert await client.call("GET", described["url"]) == (200, b"%PDF-1.7")
    assert (await client.call("GET", described["url"], token=None))[0] == 401
    meta.configure(require_media=True)
    document = {"messaging_product": "whatsapp", "to": USER, "type": "document"}
    assert (await client.post({**document, "document": {"id": media_id}}))[0] == 200
    assert await client.call("DELETE", f"/{media_id}") == (200, {"success": True})
    assert (await client.call("GET", described["url"]))[0] == 404
    assert code(await client.post({**document, "document": {"id": media_id}})) == 100


async def test_media_addresses_expire(client, meta):
    meta.configure(media_url_seconds=0.0)
    _, kept = await client.control("POST", "/media", {"any": "json is a document"})
    _, described = await client.call("GET", f"/{kept['id']}")
    assert (await client.call("GET", described["url"]))[0] == 404


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"messaging_product": "whatsapp"}, "file is required"),
        ({"file": b"x"}, "messaging_product is required"),
    ],
)
async def test_uploads_that_lack_something(client, fields, expected):
    form = aiohttp.FormData()
    for name, value in fields.items():
        form.add_field(name, value, filename="a.txt" if name == "file" else None)
    answer = await client.call("POST", f"/{client.number}/media", data=form)
    assert code(answer) == 100
    assert expected in answer[1]["error"]["error_data"]["details"]


async def test_a_film_of_an_unknown_kind_is_not_carried(client):
    form = aiohttp.FormData({"messaging_product": "whatsapp"})
    form.add_field("file", b"x", filename="a.avi", content_type="video/x-msvideo")
    answer = await client.call("POST", f"/{client.number}/media", data=form)
    assert "video/x-msvideo" in answer[1]["error"]["error_data"]["details"]


async def test_a_number_describes_itself(client, meta):
    _, described = await client.call("GET", f"/{client.number}?fields=throughput,health_status")
    assert described["throughput"] == {"level": "HIGH"}
    assert described["health_status"]["can_send_message"] == "AVAILABLE"
    meta.configure(messages_per_second=80, health="BLOCKED")
    _, described = await client.call("GET", f"/{client.number}?fields=throughput,health_status")
    assert described["throughput"] == {"level": "STANDARD"}
    assert described["health_status"]["entities"][0]["errors"]
    _, described = await client.call("GET", f"/{client.number}")
    assert described["id"] == client.number
    assert described["verified_name"]
