"""What nobody would send on purpose: webhooks, signatures and arguments of functions. No 500, nothing stuck, no memory kept."""

from __future__ import annotations

import asyncio
import copy
import gc
import json
import random
import tracemalloc
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import asyncpg
import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.inbox_bench import Bench, opened
from tests.outbox_rows import outbox_at
from tests.serving import SECRET, serving
from waemitter.whatsapp.signature import sign

PAYLOADS: Final = tuple(
    orjson.loads(path.read_bytes())
    for path in sorted((Path(__file__).parent.parent / "payloads").glob("*.json"))
    if path.name.startswith(("msg_", "status_", "field_", "batch_", "value_"))
)
ODD: Final[tuple[Any, ...]] = (
    *(None, True, 0, -1, 2**31, 2**63, 2**80, 1e308, float("nan"), "", "\u0000", "\ud83d", "x" * 5000, "9" * 400, "NaN"),
    *([], {}, [[]], [None], {"": None}, {"id": {}}, "1793700441", "-1", "99999999999999", "2026-01-01"),
)  # fmt: skip
SEEDS: Final = 1000
EXAMPLES: Final = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
OURS: Final = (
    "P0002",
    "22",
    "23",
    "42501",
    "P0001",
    "54",
)  # bad values, broken constraints, rights, our own words, nothing of that name, limits


def mutated(seed: int) -> bytes:
    """A webhook of Meta's with up to four of its parts replaced, removed, doubled or moved."""
    dice = random.Random(seed)
    body = copy.deepcopy(dice.choice(PAYLOADS))
    for _ in range(dice.randint(1, 4)):
        places = list(_places(body))
        if not places:
            break
        parent, key = dice.choice(places)
        match dice.randrange(5):
            case 0:
                parent[key] = copy.deepcopy(dice.choice(ODD))
            case 1:
                del parent[key]
            case 2 if isinstance(parent, list):
                parent.append(copy.deepcopy(parent[key]))
            case 3:
                other, there = dice.choice(places)
                if isinstance(parent[key], (str, int)):
                    other[there] = parent[key]
            case _:
                parent[key] = [parent[key]]
    text = json.dumps(
        body
    ).encode()  # orjson refuses what others write: lone surrogates, huge integers
    return text if dice.random() > 0.05 else text[: dice.randrange(len(text))]


def _places(body: Any) -> Any:
    if isinstance(body, dict):
        for key in body:
            yield body, key
            yield from _places(body[key])
    elif isinstance(body, list):
        for n in range(len(body)):
            yield body, n
            yield from _places(body[n])


@pytest.fixture
async def bench(dsn: str) -> AsyncIterator[Bench]:
    async with opened(dsn) as bench:
        yield bench


async def test_no_webhook_however_odd_sticks_or_stops_its_neighbours(bench: Bench) -> None:
    for first in range(0, SEEDS, 100):
        await bench.journal(*(mutated(seed) for seed in range(first, first + 100)))
    await bench.split()

    assert await bench.unprocessed() == 0
    stuck = "select count(*) from waemitter.webhook_logs where available_at is not null or error is not null"
    assert await bench.pool.fetchval(stuck) == 0
    assert await bench.count("inbound_messages") > 20
    failed = bench.observed.lines("WEBHOOK_ITEM_FAILED")
    assert not failed, {line["error"] for line in failed}


async def test_odd_webhooks_leave_no_memory_behind(bench: Bench) -> None:
    async def round_of(seeds: range) -> int:
        await bench.journal(*(mutated(seed) for seed in seeds))
        await bench.split()
        bench.observed.lines("WEBHOOK_PROCESSED")
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    await round_of(range(300))
    tracemalloc.start()
    try:
        before = after = await round_of(range(300))
        for _ in range(3):
            after = await round_of(range(300))
    finally:
        tracemalloc.stop()
    kept = len(bench.observed.text()) * 4  # the test's own log
    assert after - before < 1_000_000 + kept


async def test_raw_bytes_and_signatures_get_an_answer_that_is_no_500() -> None:
    async with serving() as site:
        dice = random.Random(7)
        seen: dict[int, int] = {}
        for seed in range(400):
            raw = seed % 3 == 0
            body = dice.randbytes(dice.randrange(200)) if raw else mutated(seed)
            right = sign(SECRET, body)
            signature = dice.choice(
                [right, right, right, "", "sha256=", right[:-1], right.upper(), right + "0", "sha1=" + right[7:],
                 sign("another", body), "sha256=" + "\u00e9" * 64, "sha256=" + "0" * 64, " " + right]
            )  # fmt: skip
            headers = {"X-Hub-Signature-256": signature, "Content-Type": "application/json"}
            async with site.client.post("/webhooks/whatsapp", data=body, headers=headers) as answer:
                seen[answer.status] = seen.get(answer.status, 0) + 1
        assert set(seen) == {200, 400, 401}, seen
        assert len(site.journal.entries) == seen[200]
        for _, body, _ in site.journal.entries:
            assert isinstance(orjson.loads(body), dict)


TEXT: Final = st.one_of(
    st.none(), st.text(max_size=60), st.sampled_from(["+14155550123", "x" * 300, "\u0000", "'; --", "{}", "\u0661"])
)  # fmt: skip
JSON: Final = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.text(max_size=20)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=8), inner, max_size=3)),
    max_leaves=8,
)  # fmt: skip
CALLS: Final = (
    ("select waemitter.send_text($1, $2, idempotency_key => $3)", (TEXT, TEXT, TEXT)),
    ("select waemitter.send_text($1, $2, channel => $3, ordering_key => $2)", (TEXT, TEXT, TEXT)),
    ("select waemitter.send_template($1, $2, $3, $4)", (TEXT, TEXT, TEXT, JSON.map(json.dumps))),
    ("select waemitter.send_message($1, $2, $3)", (TEXT, TEXT, JSON.map(json.dumps))),
    ("select waemitter.cancel_message($1)", (st.integers(-(2**63), 2**63 - 1),)),
    ("select waemitter.retry_message($1)", (st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1)),)),
    ("select waemitter.address($1)", (TEXT,)),
    ("select waemitter.hold_template($1, $2, $3)", (TEXT, TEXT, TEXT)),
    ("select waemitter.release_holds($1)", (TEXT,)),
    ("select waemitter.run_job($1)", (TEXT,)),
)  # fmt: skip


def test_arguments_of_functions_are_refused_in_words_or_work_and_leave_nothing_stuck(
    dsn: str,
) -> None:
    refused: set[str] = set()
    with asyncio.Runner() as runner:
        connection = runner.run(asyncpg.connect(dsn))
        known = {
            row[0]
            for row in runner.run(
                connection.fetch(
                    "select proname from pg_proc where pronamespace = 'waemitter'::regnamespace"
                )
            )
        }
        calls = [call for call in CALLS if call[0].split("waemitter.")[1].split("(")[0] in known]

        @EXAMPLES
        @given(st.data())
        def call(data: st.DataObject) -> None:
            statement, kinds = data.draw(st.sampled_from(calls))
            arguments = [data.draw(kind) for kind in kinds]
            try:
                runner.run(connection.fetchval(statement, *arguments))
            except asyncpg.PostgresError as error:
                refused.add(error.sqlstate)
                if not error.sqlstate.startswith(OURS):
                    raise

        call()
        runner.run(connection.close())
        runner.run(_all_leave(dsn))
    assert refused


async def _all_leave(dsn: str) -> None:
    """What was accepted can be claimed and settled, all of it."""
    async with outbox_at(dsn) as outbox:
        await outbox.pool.execute("delete from waemitter.held_templates")
        await outbox.pool.execute("select waemitter.sweep_holds()")
        while attempts := (await outbox.claim(500)).attempts:
            await outbox.settle_all(attempts)
        left = await outbox.pool.fetchval(
            "select count(*) from waemitter.outbox_messages where channel = 'default' and available_at is not null"
        )
        assert left == 0
