"""Calls and other changes become turns of their own, for the routes that ask for them; the past is merely kept."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.inbox_bench import NUMBER, Bench, opened
from tests.turns_bench import Script, Talk, worker_of
from waemitter.inbox.fields.actions import Rules
from waemitter.inbox.gathering.gatherer import Gatherer
from waemitter.inbox.windows import Window
from waemitter.turns.conditions import Conditions
from waemitter.turns.routes import Route, Routes, Variant
from waemitter.turns.routing import RoutedWindows
from waemitter.turns.turn import Answer, Turn

PAYLOADS = Path(__file__).parents[1] / "payloads"
ACCOUNT = "214700000000001"
MARA = "15550101201"


@dataclass
class Answering:
    turns: list[Turn] = field(default_factory=list)

    async def handle(self, turn: Turn) -> Answer:
        self.turns.append(turn)
        return Answer(messages=[{"type": "text", "text": {"body": turn.route}}])


@dataclass
class House:
    bench: Bench
    talk: Talk
    handler: Answering

    async def hear(self, *bodies: bytes) -> None:
        await self.bench.journal(*bodies)
        await self.bench.split()

    @property
    def taken(self) -> list[tuple[str, str | None]]:
        return [(turn.route, turn.messages[0].get("event")) for turn in self.handler.turns]


def route(name: str, **conditions: Any) -> Route:
    fallback = conditions.pop("fallback", False)
    supersede = conditions.pop("supersede", "keep")
    return Route(
        name=name,
        variants=(Variant("python", "python"),),
        conditions=Conditions(**conditions),
        fallback=fallback,
        supersede=supersede,
    )


@pytest.fixture
async def house(dsn: str) -> AsyncIterator[House]:
    handler = Answering()
    rules = [
        route("missed calls", fields=frozenset({"calls"}), events=frozenset({"missed"})),
        route(
            "news", fields=frozenset({"security", "brand_new_field", "group_participants_update"})
        ),
        route("all", fallback=True, supersede="discard"),
    ]
    routes = Routes(
        rules,
        handlers={(each.name, "python"): handler for each in rules},
        window=Window(duration=30),
    )
    async with opened(dsn, rules=Rules()) as bench:
        await bench.pool.execute("update waemitter.channels set waba_id = $1", ACCOUNT)
        bench.splitter._effects._gatherer = Gatherer(
            RoutedWindows(routes, Window()),
            events=bench.observed.events,
            rate=20,
            session_ttl=86_400.0,
            fields=routes.fields,
        )
        worker = worker_of(bench, routes, takeover=0.0)
        yield House(bench, Talk(bench, Script(), worker, bench.pool), handler)


def payload(name: str) -> bytes:
    return (PAYLOADS / f"field_{name}.json").read_bytes()


def missed(*, wacid: str = "wacid.1") -> bytes:
    told = {"id": wacid, "from": MARA, "event": "terminate", "timestamp": "1793700798"}
    return change("calls", metadata={"phone_number_id": NUMBER}, calls=[told])


def change(field: str, **value: Any) -> bytes:
    entry = {"id": ACCOUNT, "changes": [{"field": field, "value": value}]}
    return orjson.dumps({"object": "whatsapp_business_account", "entry": [entry]})


async def test_a_missed_call_is_answered_once(house: House) -> None:
    await house.hear(missed(), payload("calls_connect_user"), missed())
    assert await house.talk.work() == 2
    await house.hear(missed())
    assert await house.talk.work() == 0
    assert house.taken == [("missed calls", "missed")]  # and nobody was asked of the other
    rows = await house.bench.pool.fetch("select recipient, payload from waemitter.outbox_messages")
    assert [row["recipient"] for row in rows] == [f"+{MARA}"]
    assert await house.bench.count("inbound_messages") == 2


async def test_a_change_that_no_route_asks_for_is_no_turn(house: House) -> None:
    await house.hear(change("flows", event="FLOW_STATUS_CHANGE"), payload("account_alerts"))
    assert await house.bench.count("message_buffer") == 0
    assert await house.bench.unprocessed() == 0


async def test_an_unknown_field_of_the_account_reaches_its_route(house: House) -> None:
    await house.hear(change("brand_new_field", event="SOMETHING", answer=42))
    await house.talk.work()
    (turn,) = house.handler.turns
    assert turn.messages[0]["value"] == {"event": "SOMETHING", "answer": 42}
    assert turn.messages[0]["account_id"] == ACCOUNT
    assert (turn.contact.wa_id, turn.contact.user_id, turn.text) == (None, None, "")


async def test_who_answers_an_account_is_told_that_nobody_is_there(house: House) -> None:
    await house.hear(payload("security_pin_reset"))
    await house.talk.work()
    (letter,) = await house.bench.letters()
    assert letter["stage"] == "commit"
    assert "there is nobody to reply to" in letter["error"]
    assert await house.bench.count("outbox_messages") == 0


async def test_a_group_has_a_conversation_of_its_own(house: House) -> None:
    await house.hear(payload("group_participants_add"))
    row = await house.bench.pool.fetchrow("select group_id, wa_id from waemitter.contacts")
    assert row is not None
    assert tuple(row) == ("Y2FwaV9ncm91cDoxNTU1MDEwNDQ3NzoxMjAzNjM0", None)


async def test_a_call_is_no_part_of_a_window_and_comes_after_it(house: House) -> None:
    await house.talk.hear("wamid.1", sender=MARA)
    await house.hear(missed())
    assert await house.talk.work() == 0  # the window is open, and older
    await house.talk.due()
    assert await house.talk.work() == 2
    assert [turn.route for turn in house.handler.turns] == ["all", "missed calls"]
    assert [len(turn.messages) for turn in house.handler.turns] == [1, 1]


async def test_an_answer_is_not_dropped_for_a_call(house: House) -> None:
    await house.talk.hear("wamid.1", sender=MARA)
    await house.talk.due()
    (first,) = (await house.talk.worker.claim(10)).rows
    await house.hear(missed())
    await house.talk.worker.work(first)
    await house.talk.work()
    assert [turn.route for turn in house.handler.turns] == ["all", "missed calls"]


HEARD = """
    select whatsapp_message_id, message_type, from_us from waemitter.inbound_messages
    order by coalesce(sent_at, created_at)
"""


async def heard(house: House) -> list[tuple[str, bool]]:
    return [(row[1], row[2]) for row in await house.bench.pool.fetch(HEARD)]


async def test_the_past_is_kept_once_and_answered_by_nobody(house: House) -> None:
    for _ in range(2):
        await house.hear(payload("history_chunk"))
    again = orjson.loads(payload("history_chunk"))
    again["entry"][0]["changes"][0]["value"]["history"][0]["metadata"]["progress"] = 100
    await house.hear(orjson.dumps(again))
    assert await heard(house) == [("text", True), ("media_placeholder", False)]
    assert await house.talk.work() == 0
    row = await house.bench.pool.fetchrow(
        "select v.last_inbound_at, v.status, c.wa_id from waemitter.conversations v"
        " join waemitter.contacts c on c.id = v.contact_id"
    )
    assert row is not None
    assert tuple(row) == (None, "idle", MARA)
    lines = house.bench.observed.lines("HISTORY_IMPORTED")
    assert [(line["messages"], line["word"]) for line in lines] == [
        (2, "phase 0, 55 %"),
        (0, "phase 0, 100 %"),
    ]


async def test_a_file_of_the_past_takes_the_place_of_its_announcement(house: House) -> None:
    await house.hear(payload("history_chunk"))
    wamid = "wamid.HBgLMTU1NTAxMDEyMDEVAgASGBQzQTRGMURBQTkxQUExNDVBQTdDMAA="
    file = {"id": wamid, "from": MARA, "type": "image", "image": {"id": "77"}, "timestamp": "1"}
    body = change("history", metadata={"phone_number_id": NUMBER}, messages=[file])
    await house.hear(body, body)
    assert await heard(house) == [("text", True), ("image", False)]
    assert await house.bench.count("message_buffer") == 0


async def test_what_was_received_live_is_not_imported_again(house: House) -> None:
    chunk = orjson.loads(payload("history_chunk"))
    thread = chunk["entry"][0]["changes"][0]["value"]["history"][0]["threads"][0]
    await house.talk.hear(thread["messages"][1]["id"], sender=MARA)
    await house.hear(orjson.dumps(chunk))
    assert sorted(await heard(house)) == [("text", False), ("text", True)]


async def test_chunks_that_come_at_once_are_kept_once(house: House) -> None:
    bodies = []
    for progress in range(6):
        chunk = orjson.loads(payload("history_chunk"))
        told = chunk["entry"][0]["changes"][0]["value"]["history"][0]
        told["metadata"]["progress"] = progress
        bodies.append(orjson.dumps(chunk))
    await house.bench.journal(*bodies)
    (batch,) = (await house.bench.splitter.claim(1)).rows
    assert len(batch) == len(bodies)
    await asyncio.gather(*(house.bench.splitter.work([each]) for each in batch))
    assert len(await heard(house)) == 2


async def test_what_comes_for_a_number_of_no_channel_comes_in_with_a_replay(house: House) -> None:
    await house.bench.pool.execute("update waemitter.channels set phone_number_id = 'another'")
    await house.hear(payload("history_chunk"), missed())
    assert (
        house.bench.observed.value("webhook_events_total", source="whatsapp", kind="unknown_number")
        == 2
    )
    assert await house.bench.count("conversations") == 0
    await house.bench.pool.execute("update waemitter.channels set phone_number_id = $1", NUMBER)
    await house.bench.pool.execute("update waemitter.webhook_logs set available_at = now()")
    await house.bench.split()
    assert await heard(house) == [("text", True), ("media_placeholder", False), ("calls", False)]
    await house.talk.work()
    assert house.taken == [("missed calls", "missed")]
