"""A turn that fails: tried again, a dead letter, redone from its stage."""

from __future__ import annotations

import asyncio

import pytest

from tests.turns_bench import Script, talking, text
from waemitter.errors import DatabaseUnreachable
from waemitter.turns.turn import Answer, HandlerFailed, Turn


async def test_a_handler_that_fails_for_now_is_tried_again_and_then_a_dead_letter(
    dsn: str,
) -> None:
    async def answer(_: Turn) -> Answer:
        raise HandlerFailed("the service answered 503", retry=True)

    async with talking(dsn, Script(answer)) as talk:
        await talk.hear("wamid.1")
        for _ in range(3):
            await talk.turn()

        assert [turn.attempt for turn in talk.script.turns] == [1, 2, 3]
        (letter,) = await talk.bench.letters()
        assert (letter["direction"], letter["stage"], letter["attempts"]) == (
            "inbound",
            "handler",
            3,
        )
        assert letter["whatsapp_message_id"] == "wamid.1"
        assert "503" in letter["error"]
        assert letter["next_retry_at"] is not None
        assert await talk.buffers() == [("failed", 1)]
        assert await talk.status() == "error"
        job = await talk.pool.fetchrow("select * from waemitter.buffer_processing_jobs")
        assert job is not None
        assert (job["status"], job["attempts"]) == ("failed", 3)
        assert talk.bench.observed.value("turns_total", route="script", outcome="retry") == 2
        assert talk.bench.observed.value("turns_total", route="script", outcome="failed") == 1


async def test_a_handler_with_a_bug_is_a_dead_letter_at_once(dsn: str) -> None:
    async def answer(_: Turn) -> Answer:
        raise KeyError("fare")

    async with talking(dsn, Script(answer)) as talk:
        await talk.hear("wamid.1")
        await talk.turn()

        (letter,) = await talk.bench.letters()
        assert letter["error"] == "KeyError: 'fare'"
        assert "in answer" in letter["stack"]


async def test_a_handler_that_takes_too_long_is_tried_again(dsn: str) -> None:
    async def answer(turn: Turn) -> Answer:
        if turn.attempt == 1:
            await asyncio.Event().wait()
        return Answer(messages=[text("in time")])

    async with talking(dsn, Script(answer), timeout=0.05) as talk:
        await talk.hear("wamid.1")
        await talk.turn()
        await talk.turn()

        assert await talk.replies() == ["in time"]


async def test_a_router_that_fails_is_a_dead_letter_of_its_stage(
    dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with talking(dsn) as talk:
        await talk.hear("wamid.1")

        def decide(*_: object) -> None:
            raise ZeroDivisionError

        monkeypatch.setattr(talk.script, "decide", decide)
        await talk.turn()

        (letter,) = await talk.bench.letters()
        assert letter["stage"] == "route"


async def test_a_turn_that_kills_its_daemons_ends_as_a_dead_letter(dsn: str) -> None:
    async with talking(dsn) as talk:
        await talk.hear("wamid.1")
        await talk.due()
        for _ in range(3):
            assert len((await talk.worker.claim(1)).rows) == 1
            await talk.dead()
        await talk.work()

        assert talk.script.turns == []
        (letter,) = await talk.bench.letters()
        assert "died" in letter["error"]


async def test_a_dead_letter_is_redone_from_its_stage(dsn: str) -> None:
    async def answer(_: Turn) -> Answer:
        return Answer(messages=[text("hello \0 there")])

    async with talking(dsn, Script(answer)) as talk:
        await talk.hear("wamid.1")
        await talk.turn()
        (letter,) = await talk.bench.letters()
        assert letter["stage"] == "commit"
        assert await talk.replies() == []

        turn_id = talk.script.turns[0].turn_id
        with pytest.raises(HandlerFailed):
            await talk.worker.redo(turn_id)
        (letter,) = await talk.bench.letters()  # the same one
        assert letter["resolution_status"] == "pending"

        talk.script.answer = None
        assert await talk.worker.redo(turn_id)
        assert await talk.replies() == ["you said: hello"]
        (letter,) = await talk.bench.letters()
        assert letter["resolution_status"] == "resolved"
        assert await talk.buffers() == [("completed", 1)]
        assert await talk.status() == "idle"
        assert not await talk.worker.redo(turn_id)  # there is nothing left to do
        assert len(await talk.replies()) == 1


async def test_an_answer_whose_commit_failed_is_committed_without_asking_again(dsn: str) -> None:
    async with talking(dsn) as talk:
        await talk.pool.execute(
            "alter table waemitter.outbox_messages add constraint no_luck check (recipient = '') not valid"
        )
        await talk.hear("wamid.1")
        await talk.turn()
        await talk.pool.execute("alter table waemitter.outbox_messages drop constraint no_luck")
        (letter,) = await talk.bench.letters()
        assert letter["stage"] == "commit"

        assert await talk.worker.redo(talk.script.turns[0].turn_id)

        assert len(talk.script.turns) == 1
        assert await talk.replies() == ["you said: hello"]


async def test_a_job_set_back_to_scheduled_is_worked_on_again(dsn: str) -> None:
    async def answer(_: Turn) -> Answer:
        raise HandlerFailed("400", retry=False)

    async with talking(dsn, Script(answer)) as talk:
        await talk.hear("wamid.1")
        await talk.turn()
        assert await talk.buffers() == [("failed", 1)]
        talk.script.answer = None
        await talk.pool.execute("""
            UPDATE waemitter.buffer_processing_jobs
            SET status = 'scheduled', attempts = 0, error_message = NULL
            WHERE status = 'failed' AND attempts < 3;
        """)

        assert await talk.work() == 1

        assert await talk.replies() == ["you said: hello"]
        (letter,) = await talk.bench.letters()
        assert letter["resolution_status"] == "resolved"


async def test_a_database_that_goes_away_before_the_commit_leaves_the_turn_to_its_lease(
    dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with talking(dsn) as talk:
        await talk.hear("wamid.1")
        fired: list[bool] = []

        async def commit(*_: object, **__: object) -> None:
            fired.append(True)
            raise DatabaseUnreachable("gone")

        with monkeypatch.context() as patch:
            patch.setattr(talk.worker._store, "commit", commit)
            await talk.turn()
        assert fired
        assert await talk.replies() == []

        await talk.dead()
        assert await talk.work() == 1
        assert await talk.replies() == ["you said: hello"]
