"""The API over a real outbox."""

from __future__ import annotations

import asyncio
import datetime
import io
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.conftest import TEMPLATE
from tests.outbox_rows import status
from tests.serving import authenticator, serving
from tests.shop import Shop, shop_at
from waemitter.db.embedded import EmbeddedPostgres
from waemitter.web.api.assembly import build_api
from waemitter.web.api.queue import Queue

INFINITY = datetime.datetime.max.replace(tzinfo=datetime.UTC)  # as the driver spells it
TEXT = {"recipient": "+14155550123", "messageType": "text", "payload": {"text": {"body": "Hi"}}}


@pytest.fixture
async def shop(dsn: str) -> AsyncIterator[Shop]:
    async with shop_at(dsn) as shop:
        yield shop


async def test_a_message_goes_into_the_outbox_and_is_told_whole(shop: Shop) -> None:
    when = "2030-01-01T00:00:00Z"
    status_code, made = await shop.call(
        "POST",
        "/api/messages",
        TEXT | {"priority": 3, "availableAt": when, "orderingKey": "a", "maxAttempts": 2},
        X_Correlation_ID="order-17",
    )
    assert status_code == 201
    row = await shop.outbox.row(made["id"])
    assert (row["recipient"], row["status"], row["priority"]) == ("+14155550123", "queued", 3)
    assert (row["correlation_id"], row["ordering_key"], row["max_attempts"]) == ("order-17", "a", 2)
    assert made["availableAt"] == when
    assert made["payload"] == {"text": {"body": "Hi"}}
    assert await shop.call("GET", f"/api/messages/{made['id']}") == (200, made | {"events": []})


async def test_the_same_key_gives_the_first_row_back(shop: Shop) -> None:
    first = await shop.call("POST", "/api/messages", TEXT, Idempotency_Key="order-17")
    again = await shop.call("POST", "/api/messages", TEXT, Idempotency_Key="order-17")
    inside = await shop.call("POST", "/api/messages", TEXT | {"idempotencyKey": "order-17"})
    assert (first[0], again[0], inside[0]) == (201, 200, 200)
    assert first[1] == again[1] == inside[1]
    assert await shop.count() == 1


async def test_the_same_key_at_once_is_new_for_one_alone(shop: Shop) -> None:
    answers = await asyncio.gather(
        *(shop.call("POST", "/api/messages", TEXT, Idempotency_Key="k") for _ in range(8))
    )
    assert sorted(code for code, _ in answers) == [200] * 7 + [201]
    assert await shop.count() == 1


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"payload": {"text": {"body": ""}}}, "payload.text.body"),
        ({"payload": {"text": {"body": "x" * 4097}}}, "payload.text.body"),
        ({"payload": {"image": {}}}, "payload.text"),
        ({"payload": "text"}, "payload"),
        ({"messageType": ""}, "messageType"),
        ({"messageType": None}, "messageType"),
        ({"recipient": "Ada"}, "recipient"),
        ({"recipient": ""}, "recipient"),
        ({"priority": "3"}, "priority"),
        ({"priority": 99999}, "priority"),
        ({"category": "spam"}, "category"),
        ({"recipents": "+1"}, "recipents"),
        ({"availableAt": "tomorrow"}, "availableAt"),
        ({"availableAt": "2030-01-01T00:00:00"}, "availableAt"),
        ({"channel": "nowhere"}, "channel"),
        ({"payload": {"text": {"body": "a\u0000b"}}}, "body"),
        ({"idempotencyKey": "x" * 256}, "idempotencyKey"),
    ],
)
async def test_what_is_wrong_is_told_by_its_field_and_nothing_is_stored(
    shop: Shop, change: dict[str, Any], where: str
) -> None:
    code, problem = await shop.call("POST", "/api/messages", TEXT | change)
    assert (code, problem["status"]) == (422, 422)
    assert problem["errors"][0]["field"] == where
    assert problem["detail"].startswith(where)
    assert await shop.count() == 0


async def test_its_category_says_whether_an_opt_out_concerns_it(shop: Shop) -> None:
    await shop.outbox.pool.execute(
        "insert into waemitter.suppressions (address) values ('14155550123')"
    )
    told = [
        (await shop.call("POST", "/api/messages", TEXT | more))[1]["status"]
        for more in ({}, {"category": "marketing"}, {"category": "utility"})
    ]
    assert told == ["suppressed", "suppressed", "queued"]


async def test_two_different_keys_in_one_request_are_refused(shop: Shop) -> None:
    code, problem = await shop.call(
        "POST", "/api/messages", TEXT | {"idempotencyKey": "a"}, Idempotency_Key="b"
    )
    assert (code, problem["errors"][0]["field"]) == (422, "idempotencyKey")


@pytest.mark.parametrize(
    ("content_type", "body", "code"),
    [
        ("application/json", b"{", 400),
        ("application/json", b'{"a": NaN}', 400),
        ("application/json", b'"\\ud800"', 400),
        ("application/json", b"\xff", 400),
        ("application/json", b"[]", 422),
        ("text/plain", b"{}", 415),
        ("application/x-www-form-urlencoded", b"recipient=1", 415),
        ("application/json", b" " * (1024 * 1024 + 1), 413),
    ],
)
async def test_a_body_that_cannot_be_read_is_a_problem(
    shop: Shop, content_type: str, body: bytes, code: int
) -> None:
    async with shop.site.client.post(
        "/api/messages", data=io.BytesIO(body), headers={"Content-Type": content_type}
    ) as answer:
        assert answer.status == code
        assert answer.content_type == "application/problem+json"


async def test_a_body_without_a_length_is_bounded_too(shop: Shop) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(18):
            yield b" " * 65536

    headers = {"Content-Type": "application/json"}
    async with shop.site.client.post("/api/messages", data=endless(), headers=headers) as answer:
        assert answer.status == 413


async def test_pages_go_on_where_the_last_one_ended(shop: Shop) -> None:
    ids = await shop.outbox.put_many(5)
    seen, path = list[int](), "/api/messages?limit=2"
    cursor: int | None = 0
    while cursor is not None:
        suffix = f"&cursor={cursor}" if cursor else ""
        code, page = await shop.call("GET", path + suffix)
        assert code == 200
        seen += [message["id"] for message in page["messages"]]
        cursor = page["nextCursor"]
    assert seen == ids[::-1]


async def test_filters(shop: Shop) -> None:
    await shop.outbox.channel("second")
    kept = await shop.outbox.put(channel="second", campaign_id=9)
    await shop.outbox.put()
    for query in ("channel=second", "campaignId=9", "channel=second&status=queued&errorCode="):
        _, page = await shop.call("GET", f"/api/messages?{query}")
        assert [message["id"] for message in page["messages"]] == [kept]
    for query in ("status=lost", "limit=0", "limit=501", "cursor=x", "unknown=1", "campaignId=0"):
        code, problem = await shop.call("GET", f"/api/messages?{query}")
        assert (code, problem["errors"][0]["field"]) == (422, query.partition("=")[0])


async def test_cancel_then_retry_each_once_and_on_record(shop: Shop) -> None:
    message = await shop.outbox.put()
    answers = [
        await shop.call("POST", f"/api/messages/{message}/{verb}", X_User_Id="ada")
        for verb in ("cancel", "cancel", "retry", "retry")
    ]
    assert [code for code, _ in answers] == [200, 409, 200, 409]
    assert answers[0][1]["status"] == "cancelled"
    assert "cancelled" in answers[1][1]["detail"]
    assert [event["toStatus"] for event in answers[2][1]["events"]] == ["cancelled", "queued"]
    kept = await shop.outbox.pool.fetch(
        "select action, target, actor, key_name from waemitter.audit_log order by id"
    )
    assert [tuple(entry) for entry in kept] == [
        ("cancelMessage", str(message), "ada", "loopback"),
        ("retryMessage", str(message), "ada", "loopback"),
    ]


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/api/messages/17", 404),
        ("/api/messages/x", 404),
        ("/api/messages/99999999999999999999", 422),
    ],
)
async def test_a_message_that_is_not_there(shop: Shop, path: str, code: int) -> None:
    assert (await shop.call("GET", path))[0] == code
    assert (await shop.call("POST", f"{path}/cancel"))[0] == code


async def test_held_rows_show_no_infinity(shop: Shop) -> None:
    message = await shop.outbox.put(available_at=INFINITY, hold="campaign:1")
    _, shown = await shop.call("GET", f"/api/messages/{message}")
    assert (shown["hold"], shown["availableAt"]) == ("campaign:1", None)


async def test_the_queue_is_counted_as_a_funnel(shop: Shop) -> None:
    assert await shop.call("GET", "/api/queue/status") == (
        200,
        {
            "stats": dict.fromkeys(
                ("pending", "processing", "sent", "failed", "delivered", "read"), 0
            ),
            "avgSendRate": "0.0 msg/sec",
        },
    )
    await shop.outbox.pool.execute(
        "insert into waemitter.campaigns (id, name, status) overriding system value"
        " values (3, 'May', 'running')"
    )
    await shop.outbox.put_many(6, campaign_id=3)
    for word in ("read", "delivered", "sent"):
        attempt = (await shop.outbox.claim(1)).attempts[0]
        await shop.outbox.settle(attempt)
        await shop.outbox.apply(status(word, attempt))
    await shop.outbox.claim(1)
    last = await shop.outbox.put()
    assert await shop.outbox.store.cancel([last]) == [last]
    shop.now = 1.0
    for path, failed in (("/api/queue/status", 1), ("/api/queue/status?campaignId=3", 0)):
        code, told = await shop.call("GET", path)
        assert code == 200
        assert told["stats"] == {
            "pending": 2, "processing": 1, "sent": 3, "failed": failed, "delivered": 2, "read": 1,
        }  # fmt: skip
        assert told["avgSendRate"] == "0.1 msg/sec"


@pytest.mark.parametrize("path", ["/api/queue/worker", "/functions/v1/api/queue/worker"])
async def test_the_worker_s_address_rings(shop: Shop, path: str) -> None:
    code, told = await shop.call("POST", path)
    assert (code, told["success"]) == (200, True)
    assert shop.rings == [1]


@pytest.mark.parametrize(
    "path",
    [
        *("/webhooks/outbox", "/api/webhooks/outbox-trigger"),
        "/functions/v1/api/webhooks/outbox-trigger",
    ],
)
@pytest.mark.parametrize(
    ("record", "rings"),
    [
        ({"id": 1, "status": "queued"}, 1),
        ({"id": 1, "status": "pending"}, 1),
        ({"id": 1, "status": "sent"}, 0),
        ({}, 0),
        (None, 0),
    ],
)
async def test_a_database_webhook_rings_for_what_is_queued(
    shop: Shop, path: str, record: dict[str, Any] | None, rings: int
) -> None:
    body = {"type": "INSERT", "table": "outbox_messages", "schema": "waemitter", "record": record}
    code, told = await shop.call("POST", path, body | {"old_record": None})
    assert (code, told) == (200, {"success": True, "queued": bool(rings)})
    assert len(shop.rings) == rings


async def test_while_the_database_is_away_it_is_a_503(own_postgres: EmbeddedPostgres) -> None:
    async with shop_at(own_postgres.dsn(TEMPLATE)) as shop:
        await asyncio.to_thread(own_postgres.stop)
        for method, path, body in (
            ("GET", "/api/messages", None),
            ("POST", "/api/messages", TEXT),
            ("GET", "/api/queue/status", None),
        ):
            code, problem = await shop.call(method, path, body)
            assert (code, problem["status"]) == (503, 503)


async def test_everything_but_hooks_and_liveness_may_have_a_port_of_its_own() -> None:
    api = build_api(
        Queue(intake=None, campaigns=None, ring=lambda: None, clock=lambda: 0).operations(),  # type: ignore[arg-type] # unused
        auth=authenticator(),
        audit=None,  # type: ignore[arg-type] # nothing here is audited
        version="1",
    )
    outside = ["/webhooks/whatsapp", "/health/live", "/webhooks/outbox"]
    inside = ["/health", "/health/ready", "/metrics", "/api/openapi.json", "/api/queue/worker"]
    async with serving(api=api, internal=False) as public, serving(api=api, public=False) as admin:
        for paths, here, there in ((outside, public, admin), (inside, admin, public)):
            for path in paths:
                async with here.client.get(path) as answer:
                    assert answer.status != 404
                async with there.client.get(path) as answer:
                    assert answer.status == (200 if path == "/health/live" else 404)


async def test_a_trace_is_kept_with_the_message_and_nonsense_harms_nothing(shop: Shop) -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    body = {"recipient": "+14155550123", "messageType": "text", "payload": {"text": {"body": "Hi"}}}
    for header in (trace, "nonsense"):
        status, _ = await shop.call("POST", "/api/messages", body, traceparent=header)
        assert status == 201

    kept = await shop.outbox.pool.fetch("select traceparent from waemitter.outbox_messages")
    assert {row["traceparent"] for row in kept} == {trace, "nonsense"}
