"""Rows into Chatwoot: what is unknown is asked for before it is posted again, what is refused waits or fails."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from tests.chatwoot import TOKEN
from tests.desk_bench import DESK, Desk, desk_at
from tests.outbox_rows import ago
from waemitter.outbox.retry import Outcome
from waemitter.whatsapp.errors import Refused
from waemitter.whatsapp.health import Health

WORDS = {"text": {"body": "Where is my bag?"}, "from_customer": {"channel": "default", "id": "w"}}


async def put(desk: Desk, payload: Any = None, kind: str = "text", **columns: Any) -> int:
    if not await desk.value("select count(*) from waemitter.conversations"):
        await desk.talk.hear("wamid.1")
    row = {
        "recipient": "conversation:1",
        "channel": DESK,
        "message_type": kind,
        "payload": orjson.dumps(payload or WORDS).decode(),
    }
    return await desk.outbox.put(**row, **columns)


async def status(desk: Desk, message_id: int) -> tuple[str, str | None]:
    row = await desk.outbox.row(message_id)
    return row["status"], row["whatsapp_message_id"]


@pytest.mark.parametrize("fault", ["500 after", "drop after"])
async def test_what_may_have_arrived_is_asked_for_and_not_posted_again(
    dsn: str, fault: str
) -> None:
    async with desk_at(dsn) as desk:
        first = await put(desk, {"text": {"body": "Hi"}, "from_customer": {}})
        await desk.deliver()
        message = await put(desk)
        desk.fake.faults = [fault]

        decisions = [each.outcome for each in await desk.deliver()]

        unknown = Outcome.RETRY if fault == "500 after" else Outcome.UNCONFIRMED
        assert decisions == [unknown, Outcome.SENT]
        assert desk.fake.said() == ["Hi", "Where is my bag?"]
        assert await status(desk, message) == ("sent", f"chatwoot.{desk.fake.messages[-1]['id']}")
        assert (await status(desk, first))[0] == "sent"


async def test_what_did_not_arrive_is_posted_again(dsn: str) -> None:
    async with desk_at(dsn) as desk:
        message = await put(desk)
        desk.fake.faults = ["500", "500"]

        decisions = [each.outcome for each in await desk.deliver()]

        assert decisions == [Outcome.RETRY, Outcome.RETRY, Outcome.SENT]
        assert (await status(desk, message))[0] == "sent"
        assert len(desk.fake.messages) == 1


async def test_a_killed_sender_s_message_is_found_by_the_next_one(dsn: str) -> None:
    async with desk_at(dsn) as desk:
        message = await put(desk)
        attempt = await desk.outbox.claim_one(channel=DESK)
        await desk.carrier.send(attempt, b"")  # and its daemon dies
        await desk.outbox.change(message, available_at=ago(1))
        assert (await desk.outbox.claim(channel=DESK)).lost == 1
        await desk.outbox.change(message, available_at=ago(1))
        await desk.talk.pool.execute("update waemitter.inbox_health set seen_at = null")

        claimed = await desk.outbox.claim(channel=DESK)  # whatever webhooks of Meta tell
        assert claimed.resent == 1
        [again] = claimed.attempts

        assert (await desk.attempt(again)).outcome is Outcome.SENT
        assert len(desk.fake.messages) == 1


async def test_the_marker_of_another_database_s_row_is_not_taken_for_ours(dsn: str) -> None:
    async with desk_at(dsn) as desk:
        message = await put(desk)
        await desk.deliver()
        stranger = {"waemitter": f"wm1.{message}.00000000000000ff"}
        desk.fake.messages[0]["content_attributes"] = stranger
        await desk.talk.pool.execute("select waemitter.retry_message($1)", message)
        await desk.outbox.change(message, status="queued", available_at=ago(1))

        await desk.deliver()

        assert len(desk.fake.messages) == 2


@pytest.mark.parametrize(
    ("fault", "outcome", "word"),
    [
        ("429", Outcome.DEFER, "THROTTLE_NUMBER"),
        ("401", Outcome.DEFER, "PAUSE_ACCOUNT"),
        ("422", Outcome.FAILED, "FAIL"),
    ],
)
async def test_what_is_refused_waits_or_fails(
    dsn: str, fault: str, outcome: Outcome, word: str
) -> None:
    async with desk_at(dsn) as desk:
        await put(desk)
        desk.fake.faults = [fault]
        decision = await desk.attempt(await desk.outbox.claim_one(channel=DESK))

        assert (decision.outcome, decision.error_class) == (outcome, word)
        assert decision.reason is not None
        assert decision.reason.startswith(f"Chatwoot answered {fault}")


async def test_a_contact_that_chatwoot_knows_is_used(dsn: str) -> None:
    async with desk_at(dsn) as desk:
        desk.fake.begin()
        await put(desk)
        await desk.deliver()

        assert len(desk.fake.contacts) == 1
        assert [each["conversation_id"] for each in desk.fake.messages] == [1]


async def test_a_picture_comes_along_and_one_that_cannot_be_had_is_told_in_words(
    dsn: str,
) -> None:
    async with desk_at(dsn) as desk:
        picture = {"link": f"{desk.fake.url}/files/bag.png", "caption": "this one"}
        await put(desk, {"image": picture, "from_customer": {}}, "image")
        lost = {"id": "media.1", "caption": "or this"}
        await put(desk, {"image": lost, "from_customer": {"channel": "default"}}, "image")
        await desk.deliver()

        assert desk.fake.files == [("bag.png", "image/png", b"bag.png")]
        assert desk.fake.said() == ["this one", "[image]\nor this"]


async def test_a_link_to_what_only_this_host_can_reach_is_not_followed(dsn: str) -> None:
    asked: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(request.path)
        return web.Response(body=b"secret")

    inside = web.Application()
    inside.router.add_get("/{path:.*}", answer)
    async with TestServer(inside) as private, desk_at(dsn) as desk:
        link = str(private.make_url("/admin"))
        picture = {"link": link, "caption": "look"}
        await put(desk, {"image": picture, "from_customer": {}}, "image")
        await desk.deliver()

        assert asked == []
        assert desk.fake.files == []
        assert desk.fake.said() == [f"[image]\nlook\n{link}"]


async def test_order_is_kept_within_a_conversation(dsn: str) -> None:
    async with desk_at(dsn) as desk:
        for body in "abc":
            await put(desk, {"text": {"body": body}, "from_customer": {}}, ordering_key=None)
        desk.fake.faults = ["500"]

        await desk.deliver()

        assert desk.fake.said() == ["a", "b", "c"]


async def test_the_token_is_probed_without_a_message(dsn: str) -> None:
    async with desk_at(dsn) as desk:
        assert await desk.carrier.health_status() == Health("AVAILABLE", ())
        desk.carrier._client._headers["api_access_token"] = f"not {TOKEN}"
        found = await desk.carrier.health_status()
        assert isinstance(found, Refused)
        assert found.error_class == "PAUSE_ACCOUNT"


async def test_a_chatwoot_that_is_away_takes_nothing(dsn: str) -> None:
    async with desk_at(dsn) as desk:
        message = await put(desk)
        desk.carrier._client._url = "http://127.0.0.1:1/api/v1/accounts/7"

        attempt = await desk.outbox.claim_one(channel=DESK)
        decision = await desk.attempt(attempt)

        assert decision.outcome is Outcome.RETRY
        assert (await status(desk, message))[0] == "queued"
