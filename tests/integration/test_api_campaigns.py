"""Campaigns over HTTP: filled with one bad number among good ones, steered, counted, and refused with a reason."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.outbox_rows import status
from tests.shop import Shop, shop_at
from waemitter.outbox.retry import Outcome

TEXT = {"messageType": "text", "payload": {"text": {"body": "Hello {{name}}"}}}


@pytest.fixture
async def shop(dsn: str) -> AsyncIterator[Shop]:
    async with shop_at(dsn) as shop:
        yield shop


async def made(shop: Shop, **said: Any) -> int:
    code, campaign = await shop.call("POST", "/api/campaigns", {"name": "May"} | said)
    assert code == 201, campaign
    campaign_id: int = campaign["id"]
    return campaign_id


async def test_a_campaign_is_sent_to_all_but_the_numbers_that_are_none(shop: Shop) -> None:
    campaign = await made(shop)
    code, sent = await shop.call(
        "POST",
        "/api/campaigns/send",
        {
            "campaignId": campaign,
            "recipients": ["+919876543210", "Bob", "+919876543211"],
            "messageType": "text",
            "payload": {"text": {"body": "Hello from our campaign!"}},
        },
    )
    assert code == 200
    reason = sent["rejected"][0].pop("reason")
    assert sent == {
        "success": True,
        "campaignId": campaign,
        "queued": 2,
        "suppressed": 0,
        "rejected": [{"recipient": "Bob"}],
    }
    assert "neither a phone number" in reason
    _, told = await shop.call("GET", f"/api/campaigns/{campaign}")
    assert (told["status"], told["total"], told["progress"]) == ("running", 2, 0)


@pytest.mark.parametrize(("category", "queued"), [(None, 0), ("utility", 1)])
async def test_its_category_says_whether_an_opt_out_concerns_it(
    shop: Shop, category: str | None, queued: int
) -> None:
    await shop.outbox.pool.execute(
        "insert into waemitter.suppressions (address) values ('14155550002')"
    )
    payload = {"messageType": "text", "payload": {"text": {"body": "Your parcel is late"}}}
    campaign = await made(shop, **payload, **({"category": category} if category else {}))
    body = {"campaignId": campaign, "recipients": ["+14155550002"]}
    _, sent = await shop.call("POST", "/api/campaigns/send", body)
    _, told = await shop.call("GET", f"/api/campaigns/{campaign}")
    assert (sent["queued"], told["category"]) == (queued, category or "marketing")


async def test_a_category_that_meta_does_not_have_is_refused(shop: Shop) -> None:
    code, problem = await shop.call("POST", "/api/campaigns", {"name": "May", "category": "spam"})
    assert (code, problem["errors"][0]["field"]) == (422, "category")


async def test_each_recipient_gets_its_own_parameters_and_the_message_once(shop: Shop) -> None:
    await shop.outbox.pool.execute(
        "insert into waemitter.suppressions (address) values ('14155550002')"
    )
    campaign = await made(shop, **TEXT, quietHours="21:00-08:00", messagesPerSecond=20)
    body = {
        "campaignId": campaign,
        "start": False,
        "recipients": [
            {"recipient": "+14155550001", "parameters": {"name": "Ada"}},
            {"recipient": "+14155550002", "parameters": {"name": "Eve"}},
            {"recipient": "+14155550003"},
        ],
    }
    _, first = await shop.call("POST", "/api/campaigns/send", body)
    _, again = await shop.call("POST", "/api/campaigns/send", body)

    assert (first["queued"], first["suppressed"]) == (1, 1)
    assert first["rejected"] == [
        {"recipient": "+14155550003", "reason": "parameter name: is missing or empty"}
    ]
    assert (again["queued"], again["duplicates"]) == (0, 2)
    _, told = await shop.call("GET", f"/api/campaigns/{campaign}")
    assert (told["status"], told["quietHours"]) == ("draft", "21:00-08:00")
    assert told["payload"] == TEXT["payload"]
    payloads = await shop.outbox.pool.fetch("select payload from waemitter.outbox_messages")
    assert '"body": "Hello Ada"' in payloads[0]["payload"]


async def test_it_is_steered_and_what_cannot_be_is_a_conflict(shop: Shop) -> None:
    campaign = await made(shop)
    codes = [
        (await shop.call("POST", f"/api/campaigns/{campaign}/{verb}"))[0]
        for verb in ("pause", "start", "pause", "resume", "cancel", "resume")
    ]
    assert codes == [409, 200, 200, 200, 200, 409]
    code, problem = await shop.call("POST", f"/api/campaigns/{campaign}/start")
    assert (code, problem["detail"]) == (
        409,
        f"Campaign {campaign} is cancelled: it cannot be started.",
    )
    send = {"campaignId": campaign, "recipients": ["+14155550001"], "messageType": "text"}
    code, _ = await shop.call(
        "POST", "/api/campaigns/send", send | {"payload": {"text": {"body": "Hello"}}}
    )
    assert code == 409


@pytest.mark.parametrize(
    ("path", "body", "code", "words"),
    [
        ("/send", {"campaignId": 9, "recipients": [], **TEXT}, 404, "no campaign 9"),
        ("/send", {"campaignId": 1, "recipients": []}, 422, "payload: is missing"),
        ("/send", {"campaignId": 1, "recipients": [], "messageType": "text"}, 422, "come together"),
        ("/send", {"campaignId": 1, "recipients": [7], **TEXT}, 422, "recipients[0]"),
        (
            "/send",
            {"campaignId": 1, "recipients": [], "messageType": "text", "payload": {}},
            422,
            "payload.text",
        ),
        ("", {"name": ""}, 422, "name"),
        ("", {"name": "June", "channel": "other"}, 422, "channel: there is no channel 'other'"),
        ("", {"name": "June", "quietHours": "night"}, 422, "quietHours: "),
        ("", {"name": "June", "messagesPerSecond": 0}, 422, "messagesPerSecond"),
        ("", {"name": "June", "startsAt": "2026-12-01T09:00"}, 422, "startsAt"),
    ],
)
async def test_bad_input_is_refused_with_the_field_named(
    shop: Shop, path: str, body: dict[str, Any], code: int, words: str
) -> None:
    assert await made(shop) == 1
    answered, problem = await shop.call("POST", f"/api/campaigns{path}", body)
    assert (answered, words in problem["detail"]) == (code, True), problem
    assert await shop.count() == 0


@pytest.mark.parametrize("path", ["", "/report"])
async def test_an_unknown_campaign_is_not_found(shop: Shop, path: str) -> None:
    assert (await shop.call("GET", f"/api/campaigns/987654{path}"))[0] == 404
    assert (await shop.call("GET", "/api/queue/status?campaignId=987654"))[0] == 404


async def test_the_report_tells_failures_and_costs_and_the_queue_how_far_it_is(shop: Shop) -> None:
    await shop.outbox.pool.execute(
        "insert into waemitter.message_rates (country, category, price, currency)"
        " values ('US', 'marketing', 0.025, 'USD')"
    )
    campaign = await made(shop, messageType="text", payload={"text": {"body": "Hello"}})
    numbers = [f"+1415555000{n}" for n in range(4)]
    await shop.call("POST", "/api/campaigns/send", {"campaignId": campaign, "recipients": numbers})
    first, second, third, _ = (await shop.outbox.claim()).attempts
    await shop.outbox.settle_all([first, second])
    await shop.outbox.settle(third, Outcome.FAILED, code=131026, reason="gone")
    await shop.outbox.apply(status("read", first, category="marketing", billable=True))

    _, report = await shop.call("GET", f"/api/campaigns/{campaign}/report")
    _, queue = await shop.call("GET", f"/api/queue/status?campaignId={campaign}")

    assert report["failures"] == [{"code": 131026, "messages": 1, "message": "gone"}]
    (cost,) = report["costs"]
    assert (cost["country"], cost["messages"], float(cost["amount"])) == ("US", 1, 0.025)
    assert queue["stats"] | {"campaign": queue["campaign"]} == {
        "pending": 0,
        "processing": 1,
        "sent": 2,
        "failed": 1,
        "delivered": 1,
        "read": 1,
        "campaign": {
            "id": campaign,
            "name": "May",
            "progress": 75,
            "total": 4,
            "sent": 2,
            "delivered": 1,
            "failed": 1,
        },
    }
    assert "campaign" not in (await shop.call("GET", "/api/queue/status"))[1]


async def test_campaigns_come_page_by_page(shop: Shop) -> None:
    ids = [await made(shop) for _ in range(3)]
    _, page = await shop.call("GET", "/api/campaigns?limit=2")
    _, rest = await shop.call("GET", f"/api/campaigns?limit=2&cursor={page['nextCursor']}")
    assert [each["id"] for each in page["campaigns"] + rest["campaigns"]] == ids[::-1]
    assert rest["nextCursor"] is None


async def test_who_made_it_is_recorded_and_each_key_may_only_what_it_may(dsn: str) -> None:
    async with shop_at(dsn, keys={"c": ["campaigns"], "r": ["read"]}) as shop:
        code, campaign = await shop.call(
            "POST", "/api/campaigns", {"name": "May"}, Authorization="Bearer c", X_User_Id="ada"
        )
        refused = await shop.call(
            "POST", "/api/campaigns", {"name": "May"}, Authorization="Bearer r"
        )
        seen = await shop.call("GET", f"/api/campaigns/{campaign['id']}", Authorization="Bearer r")
        assert (code, refused[0], seen[0]) == (201, 403, 200)
        assert seen[1]["createdBy"] == "ada"
        actions = await shop.outbox.pool.fetch("select action, actor from waemitter.audit_log")
        assert [tuple(row) for row in actions] == [("createCampaign", "ada")]
