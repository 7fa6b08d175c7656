"""Journalled webhooks become messages, contacts and effects, each once, whatever they look like and however often they come."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.inbox_bench import NUMBER, Bench, opened, said, status, told, webhook
from waemitter.inbox.effects import FieldHandler
from waemitter.inbox.store import Connection
from waemitter.whatsapp.webhooks import FieldChange, Message, parse

PAYLOADS: Final = Path(__file__).parents[1] / "payloads"
BODIES: Final = {
    path.stem: path.read_bytes()
    for path in sorted(PAYLOADS.glob("*.json"))
    if path.stem.split("_")[0] in {"msg", "status", "value", "batch", "field"}
}


@pytest.fixture
async def bench(dsn: str) -> AsyncIterator[Bench]:
    async with opened(dsn) as bench:
        yield bench


def live(body: bytes) -> list[Message]:
    items = [item for item in parse(body) if isinstance(item, Message)]
    return [item for item in items if item.field == "messages" and item.phone_number_id == NUMBER]


async def test_every_stored_webhook_is_handled(bench: Bench) -> None:
    await bench.journal(*BODIES.values())
    await bench.split()
    assert await bench.unprocessed() == 0
    assert await bench.letters() == []
    messages = {item.wamid: item for body in BODIES.values() for item in live(body)}
    kept = await bench.pool.fetch(
        "select whatsapp_message_id, message_type, payload from waemitter.inbound_messages"
    )
    assert {row["whatsapp_message_id"]: row["message_type"] for row in kept} == {
        wamid: message.type for wamid, message in messages.items()
    }
    for row in kept:
        assert orjson.loads(row["payload"]) == messages[row["whatsapp_message_id"]].raw


async def test_a_second_look_at_every_stored_webhook_changes_nothing(bench: Bench) -> None:
    tables = ("inbound_messages", "contacts", "conversations", "parked_statuses", "dead_letters")
    await bench.journal(*BODIES.values())
    await bench.split()
    before = [await bench.count(table) for table in tables]
    await bench.pool.execute("update waemitter.webhook_logs set available_at = now()")
    await bench.split()
    assert [await bench.count(table) for table in tables] == before


any_json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["\0", "\ud800", "x" * 3000, "9" * 40]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)


def places(document: Any) -> list[tuple[Any, Any]]:
    pairs = document.items() if isinstance(document, dict) else enumerate(document)
    found: list[tuple[Any, Any]] = []
    for key, child in list(pairs):
        found.append((document, key))
        if isinstance(child, dict | list):
            found += places(child)
    return found


@st.composite
def mutants(draw: st.DrawFn) -> bytes:
    document = json.loads(BODIES[draw(st.sampled_from(sorted(BODIES)))])
    for _ in range(draw(st.integers(1, 3))):
        parent, key = draw(st.sampled_from(places(document)[:400]))
        parent[key] = draw(any_json)
    return json.dumps(document).encode()


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(bodies=st.lists(mutants(), min_size=1, max_size=4), number=st.uuids())
async def test_mutated_webhooks_harm_no_neighbour(
    bench: Bench, bodies: list[bytes], number: object
) -> None:
    half = len(bodies) // 2
    await bench.journal(*bodies[:half], told(said(f"wamid.{number}")), *bodies[half:])
    await bench.split()
    assert await bench.unprocessed() == 0
    assert await bench.pool.fetchval(
        "select count(*) = 1 from waemitter.inbound_messages where whatsapp_message_id = $1",
        f"wamid.{number}",
    )


async def test_a_thousand_updates_of_one_post_are_all_handled(bench: Bench) -> None:
    echo = await bench.message()
    messages = [said(f"wamid.{n}", sender=f"141555{n:05}") for n in range(500)]
    strangers = [status("sent", None, id=f"wamid.of.another.{n}") for n in range(498)]
    metadata = {"phone_number_id": NUMBER}
    await bench.journal(
        webhook({}, *strangers, status("read", echo), messages=messages, metadata=metadata)
    )
    await bench.split()
    assert await bench.count("inbound_messages") == 500
    assert await bench.count("conversations") == 500
    assert await bench.count("parked_statuses") == 498
    assert await bench.status_of(echo.message_id) == "read"
    assert len(await bench.letters()) == 1


async def test_the_same_post_ten_times_at_once_and_a_week_later_is_handled_once(
    bench: Bench,
) -> None:
    body = told(said("w1"), said("w2", sender="14155550177"), {"no": "id"})
    await bench.journal(*[body] * 10)
    claimed = (await bench.splitter.claim(1)).rows[0]
    await asyncio.gather(*(bench.splitter.work([webhook]) for webhook in claimed))
    assert await bench.unprocessed() == 0
    await bench.pool.execute(
        "update waemitter.processed_webhook_messages set created_at = created_at - interval '7 days'"
    )
    assert await bench.pool.fetchval("select waemitter.purge_webhook_keys()") == 0
    await bench.journal(body)
    await bench.split()
    assert await bench.count("inbound_messages") == 2
    assert len(await bench.letters()) == 1
    for kind, count in {"message": 2, "malformed": 1, "duplicate": 30}.items():
        value = bench.observed.value("webhook_events_total", source="whatsapp", kind=kind)
        assert value == count, kind
    assert sum(line["count"] for line in bench.observed.lines("WEBHOOK_DUPLICATE")) == 30


async def test_a_daemon_that_dies_leaves_neither_key_nor_effect(dsn: str) -> None:
    entered: asyncio.Queue[int] = asyncio.Queue()
    held = asyncio.Semaphore(0)

    async def hold(connection: Connection, change: FieldChange) -> None:
        del change
        await entered.put(await connection.fetchval("select pg_backend_pid()"))
        await held.acquire()

    async with opened(dsn, {"account_update": hold}) as bench:
        await bench.journal(told(said("w1")), BODIES["field_account_update_violation"])
        working = asyncio.create_task(bench.split())
        await bench.pool.execute("select pg_terminate_backend($1)", await entered.get())
        held.release()
        await entered.get()  # the lease was given back, and the next try has come as far
        assert await bench.count("processed_webhook_messages") == 0
        assert await bench.count("inbound_messages") + await bench.count("contacts") == 0
        assert await bench.unprocessed() == 2
        held.release()
        await working
        assert await bench.unprocessed() == 0
        assert await bench.count("inbound_messages") == 1
        assert entered.empty()


async def test_a_change_of_a_field_has_its_effect_once_and_is_told_when_it_is_committed(
    dsn: str,
) -> None:
    handlers: dict[str, FieldHandler] = {}
    async with opened(dsn, handlers) as bench:
        seen: list[str] = []

        async def note(connection: Connection, change: FieldChange) -> Any:
            await connection.execute(
                "insert into waemitter.service_notes values ($1)", change.field
            )
            return lambda: seen.append(change.field)

        await bench.pool.execute("create table waemitter.service_notes (field text)")
        handlers["account_alerts"] = note
        await bench.journal(*[BODIES["field_account_alerts"]] * 3, BODIES["field_calls_terminate"])
        await bench.split()
        assert await bench.count("service_notes") == 1
        assert seen == ["account_alerts"]
        changes = bench.observed.value("webhook_events_total", source="whatsapp", kind="change")
        assert changes == 2


async def test_a_handler_that_fails_puts_its_own_change_aside(dsn: str) -> None:
    async def fail(connection: Connection, change: FieldChange) -> None:
        await connection.execute("delete from waemitter.channels")
        raise KeyError(change.field)

    handlers: dict[str, FieldHandler] = {"account_alerts": fail}
    async with opened(dsn, handlers) as bench:
        await bench.journal(told(said("w1")), BODIES["field_account_alerts"], told(said("w2")))
        await bench.split()
        assert await bench.count("inbound_messages") == 2
        assert await bench.count("channels") == 1
        (letter,) = await bench.letters()
        assert letter["next_retry_at"] is not None
        assert letter["error"] == "KeyError: 'account_alerts'"


async def test_messages_go_to_the_channel_of_their_number(bench: Bench) -> None:
    await bench.pool.execute(
        "insert into waemitter.channels (name, phone_number_id) values ('second', '2')"
    )
    await bench.journal(
        told(said("w1")), told(said("w2"), number="2"), told(said("w3"), number="3")
    )
    await bench.split()
    rows = await bench.pool.fetch(
        "select v.channel, m.whatsapp_message_id from waemitter.inbound_messages m"
        " join waemitter.conversations v on v.id = m.conversation_id order by m.id"
    )
    assert [tuple(row) for row in rows] == [("default", "w1"), ("second", "w2")]
    (line,) = bench.observed.lines("WEBHOOK_NUMBER_UNKNOWN")
    assert line["count"] == 1


async def test_who_wrote_is_kept_with_their_names(bench: Bench) -> None:
    await bench.journal(BODIES["msg_text_bsuid_and_phone"])
    await bench.split()
    row = await bench.pool.fetchrow(
        "select wa_id, user_id, phone, name, username, last_inbound_at from waemitter.contacts c"
        " join waemitter.conversations v on v.contact_id = c.id"
    )
    assert row is not None
    assert tuple(row)[:5] == (
        "15550101201",
        "US.77120000000000000011",
        "+15550101201",
        "Mara Quist",
        "mara.q",
    )
    assert row["last_inbound_at"] is not None


async def test_a_changed_number_is_followed(bench: Bench) -> None:
    await bench.journal(told(said("w1", sender="15550101201")))
    await bench.journal(BODIES["msg_system_user_changed_number"])
    later = said("w2", sender="15550101299", timestamp="1793700999")
    await bench.journal(told(later))
    await bench.split()
    assert await bench.count("conversations") == 1
    row = await bench.pool.fetchrow(
        "select wa_id, last_inbound_at from waemitter.contacts, waemitter.conversations"
    )
    assert row is not None
    assert row["wa_id"] == "15550101299"


async def test_what_whatsapp_says_about_a_customer_opens_no_window(bench: Bench) -> None:
    await bench.journal(BODIES["msg_system_identity_changed"])
    await bench.split()
    assert await bench.pool.fetchval("select last_inbound_at from waemitter.conversations") is None
    assert await bench.count("inbound_messages") == 1


async def test_old_messages_of_a_history_are_nothing_new(bench: Bench) -> None:
    document = json.loads(told(said("w1")))
    document["entry"][0]["changes"][0]["field"] = "history"
    await bench.journal(json.dumps(document).encode())
    await bench.split()
    assert await bench.count("inbound_messages") == 0
    await bench.journal(told(said("w1")))
    await bench.split()
    assert await bench.count("inbound_messages") == 1


async def test_what_another_product_says_is_counted_and_left_alone(bench: Bench) -> None:
    document = json.loads(told(said("w1"))) | {"object": "instagram"}
    await bench.journal(json.dumps(document).encode())
    await bench.split()
    assert await bench.count("inbound_messages") + await bench.count("dead_letters") == 0
    assert bench.observed.value("webhook_events_total", source="whatsapp", kind="other") == 1


@pytest.mark.parametrize("text", [r"nul \u0000 within", r"half \ud83d of a pair"])
async def test_text_that_no_database_holds_is_kept_with_a_mark(bench: Bench, text: str) -> None:
    body = told(said("w1"), said("w2")).replace(b"hello", text.encode(), 1)
    await bench.journal(body)
    await bench.split()
    texts = await bench.pool.fetch(
        "select payload #>> '{text,body}' from waemitter.inbound_messages order by id"
    )
    assert "\N{REPLACEMENT CHARACTER}" in texts[0][0]
    assert texts[1][0] == "hello"


@pytest.mark.parametrize(
    ("answer", "counted"),
    [
        (said("a1", context={"id": "wamid.theirs"}), (1, 0)),
        (said("a1"), (0, 0)),
        (said("a1", type="button", context={"id": "wamid.theirs"}, button={"text": "Yes"}), (1, 1)),
        (said("a1", type="reaction", context={"id": "wamid.theirs"}), (0, 0)),
        (said("a1", type="system", context={"id": "wamid.theirs"}), (0, 0)),
        (said("a1", context="wamid.theirs"), (0, 0)),
    ],
)
async def test_an_answer_is_counted_for_the_campaign_that_it_refers_to_once(
    bench: Bench, answer: dict[str, Any], counted: tuple[int, int]
) -> None:
    campaign = await bench.pool.fetchval(
        "insert into waemitter.campaigns (name, channel, status) values ('spring', 'default', 'running')"
        " returning id"
    )
    await bench.pool.execute(
        "insert into waemitter.outbox_messages (recipient, message_type, payload, campaign_id, status, sent_at,"
        " available_at, whatsapp_message_id) values"
        " ('+14155550123', 'text', '{}', $1, 'sent', now(), null, 'wamid.theirs')",
        campaign,
    )
    await bench.journal(told(answer), told(answer))
    await bench.split()
    assert await bench.letters() == []
    await bench.pool.execute(
        "select waemitter.count_campaigns(array[$1::bigint], '{}', '{}')", campaign
    )
    row = await bench.pool.fetchrow("select replied, clicked from waemitter.campaigns")
    assert row is not None
    assert tuple(row) == counted


async def test_the_peak_of_what_comes_in_is_reserved_on_the_number(bench: Bench) -> None:
    await bench.journal(*(told(said(f"wamid.{n}")) for n in range(7)))

    await bench.split()

    assert await bench.pool.fetchval("select inbound from waemitter.channel_buckets") == 7
