"""Whoever answers a message sees its file; a file that was given up is fetched once more by its dead letter."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import orjson
import pytest

from tests.media_scene import JPEG, SHA256, Scene, fetching
from tests.turns_bench import Script, Talk, gathering, worker_of
from waemitter.inbox.media.attachments import Attachments
from waemitter.inbox.media.fetcher import DELAYS
from waemitter.jobs.dead_letters.processor import DeadLetters
from waemitter.jobs.dead_letters.store import DueLetter, DueLetterStore

SOON = 30.0  # seconds


@pytest.fixture
async def scene(dsn: str, tmp_path: Path) -> AsyncIterator[Scene]:
    async with fetching(dsn, tmp_path) as scene:
        yield scene


def talk(scene: Scene, *, patience: float = 0.0) -> Talk:
    script = Script()
    gathering(scene.bench, script)
    worker = worker_of(scene.bench, script)
    worker._files = Attachments(scene.store, patience=patience, clock=time.monotonic)
    return Talk(scene.bench, script, worker, scene.pool)


async def test_a_handler_is_told_where_the_file_is(scene: Scene) -> None:
    ada = talk(scene)
    await scene.arrives("wamid.1")
    await ada.hear("wamid.2")
    await scene.fetch()
    await ada.turn()
    (turn,) = ada.script.turns
    (file,) = scene.files()
    stored = {"path": str(file), "mime_type": "image/jpeg", "sha256": SHA256, "bytes": len(JPEG)}
    assert turn.messages[0]["media"] == {"status": "stored", **stored}
    assert "media" not in turn.messages[1]


@pytest.mark.parametrize("status", ["pending", "failed"])
async def test_a_turn_waits_no_longer_than_it_may(scene: Scene, status: str) -> None:
    ada = talk(scene)
    await scene.arrives("wamid.1")
    await scene.pool.execute("update waemitter.inbound_media set status = $1", status)
    await ada.turn()
    assert ada.script.turns[0].messages[0]["media"] == {"status": status}


async def test_a_turn_waits_for_a_file_that_is_on_its_way(scene: Scene) -> None:
    ada = talk(scene, patience=SOON)
    await scene.arrives("wamid.1")
    await ada.due()
    (row,) = (await ada.worker.claim(1)).rows
    turn = asyncio.create_task(ada.worker.work(row))
    await asyncio.sleep(0)  # it has begun
    await asyncio.gather(turn, scene.fetch())
    assert ada.script.turns[0].messages[0]["media"]["status"] == "stored"


def letters(scene: Scene) -> DeadLetters:
    async def media(letter: DueLetter) -> None:
        await scene.fetcher().again(orjson.loads(letter.payload)["inbound_media_id"])

    return DeadLetters(
        DueLetterStore(scene.pool),
        stages={"media": media},
        batch_size=50,
        max_retries=3,
        delays=(120.0, 240.0, 480.0),
        events=scene.bench.observed.events,
        clock=time.monotonic,
    )


async def given_up(scene: Scene) -> None:
    """Meta does not give it, as often as it is asked."""
    scene.meta.configure(media_url_seconds=0.0)
    await scene.arrives("wamid.1")
    for _ in range(len(DELAYS) + 1):
        await scene.due_now()
        await scene.fetch()
    await scene.pool.execute("update waemitter.dead_letters set next_retry_at = now()")


async def test_a_file_that_was_given_up_comes_by_its_dead_letter(scene: Scene) -> None:
    await given_up(scene)
    scene.meta.configure(media_url_seconds=300.0)
    assert (await letters(scene).run())["successful"] == 1
    assert [row["status"] for row in await scene.rows()] == ["stored"]
    assert [each["resolution_status"] for each in await scene.bench.letters()] == ["resolved"]
    assert len(scene.files()) == 1


async def test_a_letter_whose_file_still_cannot_be_had_waits_and_says_why(scene: Scene) -> None:
    await given_up(scene)
    assert (await letters(scene).run())["failed"] == 1
    (letter,) = await scene.bench.letters()
    assert letter["resolution_status"] == "pending"
    assert letter["error"] == "DownloadFailed: Meta's address of the file answered 404"


async def test_a_letter_of_a_number_that_is_not_ours_is_not_resolved(scene: Scene) -> None:
    await given_up(scene)
    await scene.pool.execute("update waemitter.inbound_media set channel = 'another'")
    assert (await letters(scene).run())["failed"] == 1
