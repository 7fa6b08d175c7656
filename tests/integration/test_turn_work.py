"""One worker at a time, one answer in the end: locks, supersede, failures, daemons that die, letters that are redone."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.support import eventually
from tests.turns_bench import BOB, Script, looping, talking, text, worker_of
from waemitter.inbox.windows import OFF
from waemitter.turns.turn import Answer, Turn


async def test_what_is_said_while_a_turn_is_worked_on_is_a_turn_of_its_own(dsn: str) -> None:
    async with talking(dsn) as talk:

        async def answer(turn: Turn) -> Answer:
            if turn.messages[0]["id"] == "wamid.1":
                await talk.hear("wamid.2")
            return Answer(messages=[text(turn.messages[0]["id"])])

        talk.script.answer = answer
        await talk.hear("wamid.1")
        await talk.turn()
        assert await talk.replies() == ["wamid.1"]
        assert await talk.buffers() == [("completed", 1), ("open", 1)]
        assert await talk.status() == "buffering"
        await talk.turn()

        assert await talk.replies() == ["wamid.1", "wamid.2"]


async def test_a_stale_answer_is_discarded_and_one_turn_answers_all_at_most_twice(
    dsn: str,
) -> None:
    async with talking(dsn, Script(supersede="discard")) as talk:

        async def answer(turn: Turn) -> Answer:
            await talk.hear(f"wamid.{len(talk.script.turns) + 1}")
            return Answer(messages=[text(f"to {len(turn.messages)}")])

        talk.script.answer = answer
        await talk.hear("wamid.1")
        for _ in range(2):
            await talk.turn()
            assert await talk.replies() == []
        await talk.turn()

        assert await talk.replies() == ["to 3"]
        assert [len(turn.messages) for turn in talk.script.turns] == [1, 2, 3]
        assert len({turn.turn_id for turn in talk.script.turns}) == 1
        assert talk.bench.observed.value("turns_total", route="script", outcome="superseded") == 2
        talk.script.answer = None
        await talk.turn()
        assert len(await talk.replies()) == 2


async def test_a_conversation_at_work_makes_its_next_turn_wait_and_wakes_it(dsn: str) -> None:
    async with talking(dsn, Script(window=OFF)) as talk:
        going, gone = asyncio.Event(), asyncio.Event()

        async def answer(turn: Turn) -> Answer:
            going.set()
            await gone.wait()
            return Answer(messages=[text(turn.messages[0]["id"])])

        talk.script.answer = answer
        await talk.hear("wamid.1")
        (first,) = (await talk.worker.claim(10)).rows
        working = asyncio.ensure_future(talk.worker.work(first))
        await going.wait()
        await talk.hear("wamid.2")
        claim = await talk.worker.claim(10)
        assert not claim.rows
        assert claim.next_due is not None
        assert claim.next_due > 60  # it sleeps until the lease ends, or the bell
        gone.set()
        await working

        assert await talk.work() == 1
        assert await talk.replies() == ["wamid.1", "wamid.2"]


async def test_another_holder_of_the_lock_is_waited_for(dsn: str) -> None:
    async with talking(dsn) as talk:
        await talk.hear("wamid.1")
        arguments = "(select id from waemitter.conversations), '11111111-1111-1111-1111-111111111111', 'theirs'"
        other = "(select id from waemitter.conversations), '22222222-2222-2222-2222-222222222222'"
        acquire = "select waemitter.acquire_conversation_lock({})"
        assert await talk.value(acquire.format(arguments))
        assert await talk.value(acquire.format(arguments))  # its holder renews it
        assert not await talk.value(acquire.format(other))
        await talk.due()
        assert await talk.work() == 0

        assert not await talk.value(f"select waemitter.release_conversation_lock({other})")
        assert await talk.value(f"select waemitter.release_conversation_lock({arguments})")

        assert await talk.work() == 1


async def test_a_turn_whose_daemon_died_is_answered_by_the_next_one_once(dsn: str) -> None:
    async with talking(dsn) as talk:
        await talk.hear("wamid.1")
        await talk.due()
        assert len((await talk.worker.claim(1)).rows) == 1  # and nobody works on it
        assert await talk.work() == 0

        await talk.dead()
        assert await talk.work() == 1

        assert talk.script.turns[0].attempt == 2
        assert len(await talk.replies()) == 1


async def test_a_worker_that_was_only_thought_dead_changes_nothing(dsn: str) -> None:
    async with talking(dsn) as talk:
        await talk.hear("wamid.1")
        await talk.due()
        (stale,) = (await talk.worker.claim(1)).rows
        await talk.dead()
        assert await talk.work() == 1

        await talk.worker.work(stale)

        assert len(await talk.replies()) == 1
        assert talk.bench.observed.value("turns_total", route="none", outcome="lost") == 1


async def test_a_lock_that_is_lost_stops_the_handler_before_it_commits(dsn: str) -> None:
    async with talking(dsn, lease=0.03) as talk:
        cancelled = asyncio.Event()

        async def answer(_: Turn) -> Answer:
            await talk.pool.execute("update waemitter.conversations set fence = fence + 1")
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled.set()
                raise
            return Answer(messages=[text("never")])

        talk.script.answer = answer
        await talk.hear("wamid.1")
        await talk.due()
        (turn,) = (await talk.worker.claim(1)).rows
        await talk.worker.work(turn)

        assert cancelled.is_set()
        assert await talk.replies() == []
        assert talk.bench.observed.value("turns_total", route="none", outcome="lost") == 1


async def test_the_lock_is_renewed_while_a_handler_works(dsn: str) -> None:
    async with talking(dsn, lease=0.6) as talk:

        async def answer(_: Turn) -> Answer:
            held = "select locked_at from waemitter.conversations"
            before = await talk.value(held)

            async def renewed() -> Any:
                return await talk.value(held) != before

            await eventually(renewed)
            return Answer(messages=[text("at last")])

        talk.script.answer = answer
        await talk.hear("wamid.1")
        await talk.turn()

        assert await talk.replies() == ["at last"]


async def test_a_buffer_takes_its_messages_and_its_job_along(dsn: str) -> None:
    async with talking(dsn) as talk:
        await talk.hear("wamid.1")
        await talk.pool.execute("delete from waemitter.message_buffer")

        assert await talk.bench.count("buffered_messages") == 0
        assert await talk.bench.count("buffer_processing_jobs") == 0
        assert await talk.work() == 0


async def test_turns_that_were_claimed_and_not_begun_are_given_back_whole(dsn: str) -> None:
    async with talking(dsn) as talk:
        await talk.hear("wamid.1")
        await talk.due()
        rows = (await talk.worker.claim(1)).rows
        await talk.worker.release(rows)

        assert await talk.work() == 1
        assert talk.script.turns[0].attempt == 1


async def test_two_daemons_answer_each_turn_once(dsn: str) -> None:
    async with talking(dsn, Script(window=OFF)) as talk:
        other = worker_of(talk.bench, talk.script)
        people = [f"1415555{n:04}" for n in range(40)]
        async with looping([talk.worker, other]):
            for person in people:
                await talk.hear(f"wamid.{person}.1", f"wamid.{person}.2", sender=person)

            async def answered() -> Any:
                return len(await talk.replies()) >= 80

            await eventually(answered, within=30)
        counts = await talk.pool.fetch(
            "select recipient, count(*) from waemitter.outbox_messages group by 1"
        )
        assert {tuple(row) for row in counts} == {(f"+{person}", 2) for person in people}
        order: dict[str, list[str]] = {}
        for turn in talk.script.turns:
            order.setdefault(str(turn.contact.wa_id), []).append(turn.messages[0]["id"])
        assert all(ids == sorted(ids) for ids in order.values())


async def test_the_bell_rings_only_when_something_is_due_sooner(dsn: str) -> None:
    async with talking(dsn) as talk:
        rings: list[str] = []
        async with talk.pool.acquire() as ear:
            await ear.add_listener("waemitter_buffer", lambda *told: rings.append(told[2]))

            async def heard() -> int:
                await ear.fetchval("select 1")
                count = len(rings)
                rings.clear()
                return count

            await talk.hear("wamid.1")
            assert await heard() == 1
            await talk.hear("wamid.2")
            await talk.hear("wamid.3", sender=BOB)
            assert await heard() == 0
            await talk.hear("wamid.4", type="button", button={"text": "Yes"})
            assert await heard() == 1
            await ear.reset()


async def test_the_bell_rings_when_what_is_due_sooner_may_be_claimed_before_the_commit(
    dsn: str,
) -> None:
    async with talking(dsn) as talk:
        await talk.hear("wamid.1", type="button", button={"text": "Yes"})
        rings: list[str] = []
        async with talk.pool.acquire() as ear:
            await ear.add_listener("waemitter_buffer", lambda *told: rings.append(told[2]))

            await talk.hear("wamid.2", sender=BOB)

            await ear.fetchval("select 1")
            await ear.reset()
        assert len(rings) == 1
