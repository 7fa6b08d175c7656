import aiohttp
import pytest

from waemitter.simulator import Options, Simulator

USER = "+15550101201"


async def test_messages_are_paged_and_filtered(client):
    for index in range(3):
        await client.text(f"+1555010120{index}")
    _, first = await client.control("GET", "/messages?limit=2")
    assert [row["id"] for row in first["messages"]] == [1, 2]
    _, rest = await client.control("GET", f"/messages?limit=2&after={first['next']}")
    assert [row["id"] for row in rest["messages"]] == [3]
    assert rest["next"] is None
    _, one = await client.control("GET", "/messages?to=15550101202")
    assert [row["id"] for row in one["messages"]] == [3]


async def test_duplicates_are_reported(client):
    await client.text(USER, biz_opaque_callback_data="first")
    await client.text(USER, biz_opaque_callback_data="second")
    _, report = await client.control("GET", "/report")
    assert (report["accepted"], report["duplicates"]) == (2, 1)
    _, page = await client.control("GET", "/messages?duplicates=1")
    assert [row["opaque"] for row in page["messages"]] == ["second"]


async def test_reset_forgets_messages_and_limits(client, meta):
    meta.configure(pair_burst=1)
    await client.text(USER)
    assert (await client.text(USER))[0] == 400
    assert (await client.control("DELETE", "/messages"))[0] == 200
    assert len(meta.ledger) == 0
    assert (await client.text(USER))[0] == 200


async def test_options_change_at_run_time(client, meta):
    status, shown = await client.control("PATCH", "/options", {"error_mix": {"131016": 1}})
    assert (status, shown["error_mix"], shown["app_secret"]) == (200, {"131016": 1.0}, "***")
    assert (await client.text(USER))[0] == 500
    status, error = await client.control("PATCH", "/options", {"latency": 0, "colour": 1})
    assert status == 400
    assert "colour" in error["error"]
    assert meta.options.error_mix == {131016: 1.0}


async def test_an_unrelated_change_leaves_limits_as_they_are(client):
    await client.control("PATCH", "/options", {"pair_burst": 1})
    await client.text(USER)
    await client.control("PATCH", "/options", {"latency": 0})
    assert (await client.text(USER))[0] == 400


async def test_a_customer_writes(client, meta, receiver):
    body = {"from": "+1 555 010 1201", "text": "hello", "phone_number_id": "1", "name": "Ada"}
    _, written = await client.control("POST", "/customers/messages", body)
    await meta.settle()
    (message,) = receiver.messages
    assert message["id"] == written["id"]
    assert message["from"] == "15550101201"
    assert receiver.values()[0]["contacts"][0]["profile"]["name"] == "Ada"
    assert receiver.values()[0]["metadata"]["phone_number_id"] == "1"


async def test_a_customer_without_a_number_sends_a_picture(client, meta, receiver):
    async with client.session.post(
        f"{meta.address}/_simulator/media", data=b"jpeg", headers={"Content-Type": "image/jpeg"}
    ) as reply:
        media = await reply.json()
    picture = {"type": "image", "image": {"id": media["id"], "caption": "look"}}
    body = {"from": "US.134912", "message": picture, "phone_number_id": "1"}
    await client.control("POST", "/customers/messages", body)
    await meta.settle()
    (message,) = receiver.messages
    assert message["from_user_id"] == "US.134912"
    assert message["image"] == {**media, "caption": "look"}
    _, described = await client.call("GET", f"/{media['id']}")
    assert (await client.call("GET", described["url"]))[1] == b"jpeg"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/customers/messages", {"from": USER, "text": "nobody sent from any number yet"}),
        ("/customers/messages", {"from": USER, "phone_number_id": "1"}),
        ("/customers/messages", {"from": "Ada", "text": "hi", "phone_number_id": "1"}),
        ("/customers/messages", {"from": USER, "message": "hi", "phone_number_id": "1"}),
        ("/customers/messages", []),
        ("/templates", {"name": "order"}),
        ("/templates", {"name": "order", "language": "en", "status": "odd"}),
        ("/webhook", {}),
    ],
)
async def test_wishes_that_make_no_sense_are_refused(client, path, body):
    status, reply = await client.control("POST", path, body)
    assert status == 400
    assert reply["error"]


async def test_declared_templates_are_listed(client):
    declared = [{"name": "order", "language": language} for language in ("de", "en")]
    assert (await client.control("POST", "/templates", declared))[0] == 200
    _, listed = await client.control("GET", "/templates")
    assert [template["language"] for template in listed] == ["de", "en"]


async def test_a_port_that_is_taken_is_an_oserror(meta):
    with pytest.raises(OSError, match="address already in use"):
        async with Simulator(Options(port=meta.port)):
            pytest.fail("listened twice")


async def test_after_its_context_nobody_listens(client, meta):
    async with Simulator() as brief:
        url = f"{brief.address}/_simulator/report"
        async with client.session.get(url) as reply:
            assert reply.status == 200
    with pytest.raises(aiohttp.ClientConnectionError):
        await client.session.get(url)
    assert meta.port != brief.port


async def test_a_failure_inside_its_context_stays_what_it_is():
    with pytest.raises(KeyError):
        async with Simulator():
            raise KeyError
