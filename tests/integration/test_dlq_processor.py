"""Dead letters are tried again from their stage, three times, and then abandoned."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping
from typing import Any

import asyncpg
import orjson
import pytest

from tests.inbox_bench import Bench, opened, said, status, told, webhook
from waemitter.jobs.dead_letters.processor import DeadLetters, Redo
from waemitter.jobs.dead_letters.store import DueLetter, DueLetterStore
from waemitter.outbox.letters.store import LetterStore

INSERT = """
    insert into waemitter.dead_letters (direction, stage, payload, error, next_retry_at, correlation_id)
    select 'inbound', $2, '{"turn": 7}', 'it broke', now(), 'order-17' from generate_series(1, $1) returning id
"""
DUE = "update waemitter.dead_letters set next_retry_at = now() where resolution_status = 'pending'"


@pytest.fixture
async def bench(dsn: str) -> AsyncIterator[Bench]:
    async with opened(dsn) as bench:
        yield bench


def processor(bench: Bench, stages: Mapping[str, Redo], **more: Any) -> DeadLetters:
    options: dict[str, Any] = {"batch_size": 50, "max_retries": 3, "delays": (120.0, 240.0, 480.0)}
    return DeadLetters(
        DueLetterStore(bench.pool),
        stages=stages,
        events=bench.observed.events,
        clock=time.monotonic,
        **(options | more),
    )


def splitting(bench: Bench) -> DeadLetters:
    async def split(letter: DueLetter) -> None:
        await bench.splitter.redo(source=letter.source, payload=letter.payload)

    return processor(bench, {"split": split})


async def works(_: DueLetter) -> None: ...


async def fails(_: DueLetter) -> None:
    raise ValueError("still broken")


async def row(bench: Bench) -> asyncpg.Record:
    (found,) = await bench.letters()
    return found


async def wait_of(bench: Bench) -> float | None:
    """Seconds until the letter's next retry."""
    seconds: float | None = await bench.pool.fetchval(
        "select extract(epoch from next_retry_at - now())::float8 from waemitter.dead_letters"
    )
    return seconds


async def test_the_summary_and_the_log_are_those_of_the_runbook(bench: Bench) -> None:
    await bench.pool.execute(INSERT, 4, "good")
    await bench.pool.execute(INSERT, 1, "bad")

    summary = await processor(bench, {"good": works, "bad": fails}).run()

    assert summary.pop("durationMs") >= 0  # type: ignore[attr-defined] # a dict
    assert summary == {
        "success": True,
        "processed": 5,
        "successful": 4,
        "failed": 1,
        "abandoned": 0,
    }
    assert len(bench.observed.lines("DLQ_PROCESSOR_STARTED")) == 1
    assert len(bench.observed.lines("DLQ_MESSAGE_PROCESSED")) == 5
    (line,) = bench.observed.lines("DLQ_PROCESSOR_COMPLETED")
    assert (line["processed"], line["successful"], line["failed"]) == (5, 4, 1)


async def test_a_letter_waits_2_4_and_8_minutes_and_is_abandoned_after_three_retries(
    bench: Bench,
) -> None:
    await bench.pool.execute(INSERT, 1, "bad")
    retry = processor(bench, {"bad": fails})
    waits: list[float | None] = []
    summaries: list[Mapping[str, Any]] = []
    for _ in range(4):
        summaries.append(await retry.run())
        waits.append(await wait_of(bench))
        await bench.pool.execute(DUE)

    assert waits[0] == pytest.approx(240, abs=20)
    assert waits[1] == pytest.approx(480, abs=20)
    assert waits[2:] == [None, None]
    assert [summary["processed"] for summary in summaries] == [1, 1, 1, 0]
    assert [summary["abandoned"] for summary in summaries] == [0, 0, 1, 0]
    letter = await row(bench)
    assert (letter["resolution_status"], letter["retry_count"]) == ("abandoned", 3)
    assert letter["error"] == "ValueError: still broken"
    (line,) = bench.observed.lines("DLQ_MESSAGE_ABANDONED")
    assert (line["stage"], line["correlation_id"]) == ("bad", "order-17")


async def test_a_letter_that_takes_its_daemon_down_is_abandoned_too(bench: Bench) -> None:
    await bench.pool.execute(INSERT, 1, "deadly")
    store = DueLetterStore(bench.pool)
    for _ in range(3):
        assert await store.claim(50, max_retries=3, delays=(120.0, 240.0, 480.0))  # and it dies
        await bench.pool.execute(DUE)

    summary = await processor(bench, {"deadly": works}).run()

    assert (summary["successful"], summary["abandoned"]) == (0, 1)
    assert (await row(bench))["resolution_status"] == "abandoned"


async def test_an_operators_retry_of_an_abandoned_letter_begins_anew(bench: Bench) -> None:
    await bench.pool.execute(INSERT, 1, "bad")
    await bench.pool.execute(
        "update waemitter.dead_letters set resolution_status = 'abandoned', retry_count = 3"
    )
    letter_id = (await row(bench))["id"]

    assert await LetterStore(bench.pool).retry([letter_id])
    summary = await processor(bench, {"bad": works}).run()

    assert summary["successful"] == 1
    letter = await row(bench)
    assert (letter["resolution_status"], letter["next_retry_at"]) == ("resolved", None)


async def test_what_an_operator_discards_meanwhile_stays_discarded(bench: Bench) -> None:
    await bench.pool.execute(INSERT, 1, "slow")

    async def slow(_: DueLetter) -> None:
        await bench.pool.execute(
            "update waemitter.dead_letters set resolution_status = 'discarded'"
        )

    await processor(bench, {"slow": slow}).run()
    assert (await row(bench))["resolution_status"] == "discarded"


async def test_a_stage_that_nobody_redoes_fails_with_its_name(bench: Bench) -> None:
    await bench.pool.execute(INSERT, 1, "of the future")
    summary = await processor(bench, {}).run()
    assert summary["failed"] == 1
    assert "'of the future'" in (await row(bench))["error"]


async def test_fifty_in_a_run_the_oldest_first_and_each_by_one_daemon(bench: Bench) -> None:
    await bench.pool.execute(INSERT, 120, "good")
    seen: list[int] = []

    async def note(letter: DueLetter) -> None:
        seen.append(letter.id)

    for _ in range(2):
        assert (await processor(bench, {"good": note}).run())["processed"] == 50
    assert (await processor(bench, {"good": note}).run())["processed"] == 20
    assert len(set(seen)) == len(seen) == 120
    assert max(seen[:50]) < min(seen[50:])


async def test_outbound_letters_are_none_of_its_business(bench: Bench) -> None:
    await bench.pool.execute(INSERT, 1, "send")
    await bench.pool.execute("update waemitter.dead_letters set direction = 'outbound'")
    assert (await processor(bench, {"send": works}).run())["processed"] == 0


async def refuse(bench: Bench) -> None:
    await bench.pool.execute(
        "create function refuse() returns trigger language plpgsql as"
        " $$ begin raise exception 'refused' using errcode = 'data_exception'; end $$;"
        "create trigger refuse before insert on waemitter.inbound_messages for each row"
        " when (new.whatsapp_message_id = 'wamid.poison') execute function refuse()"
    )


async def test_what_could_not_be_split_is_handled_once_the_cause_is_mended(bench: Bench) -> None:
    await refuse(bench)
    await bench.journal(told(said("wamid.poison"), said("wamid.good")))
    await bench.split()
    count = "select count(*) from waemitter.inbound_messages where whatsapp_message_id = $1"
    assert await bench.pool.fetchval(count, "wamid.poison") == 0
    assert await wait_of(bench) == pytest.approx(120, abs=20)

    await bench.pool.execute(DUE)
    assert (await splitting(bench).run())["failed"] == 1
    await bench.pool.execute("drop trigger refuse on waemitter.inbound_messages")
    await bench.pool.execute(DUE)
    assert (await splitting(bench).run())["successful"] == 1

    assert await bench.pool.fetchval(count, "wamid.poison") == 1
    assert (await row(bench))["resolution_status"] == "resolved"
    # … and a second copy of it, or of its letter, does nothing
    await bench.pool.execute(
        "update waemitter.dead_letters set resolution_status = 'pending', next_retry_at = now()"
    )
    assert (await splitting(bench).run())["successful"] == 1
    assert await bench.pool.fetchval(count, "wamid.poison") == 1


@pytest.mark.parametrize(
    "body",
    [
        webhook({"status": "sent"}, status("sent", None, id="w")),
        told(said("wamid.1", sender=None)),
        b"no json",
    ],
)
async def test_what_can_have_no_effect_is_not_called_handled(bench: Bench, body: bytes) -> None:
    await bench.journal(body)
    await bench.split()
    letter = await row(bench)
    assert letter["next_retry_at"] is None  # not tried by itself

    assert await LetterStore(bench.pool).retry([letter["id"]])
    summary = await splitting(bench).run()

    assert (summary["processed"], summary["failed"]) == (1, 1)
    letter = await row(bench)
    assert (letter["resolution_status"], letter["error"][:8]) == ("pending", "Unusable")


async def test_a_letter_that_holds_no_item_says_where_it_is(bench: Bench) -> None:
    payload = orjson.dumps({"webhook_id": 7, "webhook": {"webhook_id": 7}}).decode()
    await bench.pool.execute(INSERT, 1, "split")
    await bench.pool.execute("update waemitter.dead_letters set payload = $1::text::jsonb", payload)
    assert (await splitting(bench).run())["failed"] == 1
    assert "Unusable" in (await row(bench))["error"]
