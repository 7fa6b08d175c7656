"""Late answers over HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest

from tests.shop import Shop, shop_at

ADA = """
    with c as (insert into waemitter.contacts (channel, wa_id, name) values ('default', '14155550123', 'Ada') returning id)
    insert into waemitter.conversations (channel, contact_id) select 'default', id from c returning id
"""
SESSION = "select active_service, context from waemitter.user_sessions"
HELLO = {"type": "text", "text": {"body": "Your driver is Bob."}}


@pytest.fixture
async def shop(dsn: str) -> AsyncIterator[Shop]:
    async with shop_at(dsn) as shop:
        yield shop


@pytest.fixture
async def path(shop: Shop) -> str:
    return f"/api/conversations/{await shop.outbox.pool.fetchval(ADA)}/reply"


async def session(shop: Shop) -> tuple[str | None, Any] | None:
    row = await shop.outbox.pool.fetchrow(SESSION)
    return None if row is None else (row[0], orjson.loads(row[1]))


async def test_a_late_answer_goes_into_the_outbox_in_its_order(shop: Shop, path: str) -> None:
    second = {"type": "image", "image": {"link": "https://x.test/car.png"}}

    code, made = await shop.call(
        "POST", path, {"messages": [HELLO, second]}, X_Correlation_ID="c-1"
    )

    assert code == 201
    first, last = [await shop.outbox.row(each) for each in made["messageIds"]]
    assert first["id"] < last["id"]
    assert (first["recipient"], first["message_type"], first["status"]) == (
        "+14155550123",
        "text",
        "queued",
    )
    assert orjson.loads(first["payload"]) == {"text": {"body": "Your driver is Bob."}}
    assert (last["message_type"], last["correlation_id"]) == ("image", "c-1")


async def test_the_same_key_answers_once_and_changes_nothing_again(shop: Shop, path: str) -> None:
    body = {"messages": [HELLO], "session": {"active_service": "rides", "context": {"step": 1}}}
    asked = [shop.call("POST", path, body, Idempotency_Key="k") for _ in range(4)]
    answers = await asyncio.gather(*asked)
    other = await shop.call("POST", path, body | {"session": {"context": {}}}, Idempotency_Key="k")

    assert sorted(code for code, _ in answers) == [200, 200, 200, 201]
    assert {orjson.dumps(made) for _, made in [*answers, other]} == {orjson.dumps(other[1])}
    assert await shop.count() == 1
    assert await session(shop) == ("rides", {"step": 1})


@pytest.mark.parametrize(
    ("given", "after"),
    [
        ({"context": {"step": 2}}, ("rides", {"step": 2})),
        ({"active_service": "bus"}, ("bus", {"step": 1})),
        ({"activeService": None}, (None, {"step": 1})),
        ({}, ("rides", {"step": 1})),
    ],
)
async def test_of_a_session_only_what_is_named_changes(
    shop: Shop, path: str, given: Any, after: Any
) -> None:
    begun = {"session": {"active_service": "rides", "context": {"step": 1}}}
    assert (await shop.call("POST", path, begun))[0] == 200

    assert (await shop.call("POST", path, {"session": given}))[0] == 200

    assert await session(shop) == after


async def test_a_conversation_is_handed_over_and_then_a_human_answers(
    shop: Shop, path: str
) -> None:
    code, _ = await shop.call("POST", path, {"messages": [HELLO], "handover": True})
    assert code == 201
    assert await shop.outbox.pool.fetchval("select status from waemitter.conversations") == "human"

    code, problem = await shop.call("POST", path, {"messages": [HELLO]})

    assert (code, problem["detail"].partition(": ")[2]) == (409, "a human answers it now.")
    assert await shop.count() == 1


async def test_a_conversation_that_is_not_there(shop: Shop) -> None:
    code, problem = await shop.call("POST", "/api/conversations/99/reply", {"messages": [HELLO]})

    assert (code, problem["detail"]) == (404, "There is no conversation 99.")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"messages": [{"type": "text", "text": {}}]}, "messages[0].text.body"),
        ({"messages": [HELLO, {"text": {"body": "x"}}]}, "messages[1].type"),
        ({"mesages": []}, "mesages"),
        ({"session": {"context": {"a": "\u0000"}}}, "body"),
        ({"messages": [{"type": "text", "text": {"body": "x", "n": 2**70}}]}, "body"),
    ],
)
async def test_what_is_wrong_is_told_by_its_field_and_nothing_is_stored(
    shop: Shop, path: str, body: Any, field: str
) -> None:
    code, problem = await shop.call("POST", path, body)

    assert (code, problem["errors"][0]["field"]) == (422, field)
    assert await shop.count() == 0
    assert await session(shop) is None
