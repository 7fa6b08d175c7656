"""Files that customers send: fetched from the simulated platform, checked, kept, and removed when their time is over."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.inbox_bench import said, told
from tests.media_scene import DAYS, JPEG, SHA256, Scene, fetching
from tests.support import eventually
from waemitter.errors import DatabaseUnreachable
from waemitter.inbox.media.fetcher import DELAYS, PREFIX
from waemitter.inbox.media.shelf import PARTIAL
from waemitter.inbox.media.store import InboundMediaStore
from waemitter.runtime.doorbell import Bell
from waemitter.runtime.due_loop import DueLoop, Fixed
from waemitter.runtime.supervise import Stop, supervise
from waemitter.whatsapp.client import GraphClient
from waemitter.whatsapp.inbound_media import DownloadFailed


@pytest.fixture
async def scene(dsn: str, tmp_path: Path) -> AsyncIterator[Scene]:
    async with fetching(dsn, tmp_path) as scene:
        yield scene


async def test_a_file_is_fetched_checked_and_kept_beside_its_message(scene: Scene) -> None:
    await scene.arrives("wamid.1")
    assert scene.bench.wanted == [True]
    await scene.fetch()
    (row,) = await scene.rows()
    (file,) = scene.files()
    assert file.read_bytes() == JPEG
    assert file.name == f"{SHA256}.jpg"
    assert file.stat().st_mode & 0o007 == 0
    assert (row["status"], row["available_at"], row["path"]) == ("stored", None, str(file))
    stored = (await scene.store.files("default", ["wamid.1", "wamid.2"]))["wamid.1"]
    assert stored == ("wamid.1", "stored", str(file), "image/jpeg", SHA256, len(JPEG))
    assert scene.bench.observed.value("inbound_media_total", outcome="stored") == 1
    assert (await scene.fetcher().claim(4)).next_due is None


async def test_a_message_that_comes_twice_has_its_file_fetched_once(scene: Scene) -> None:
    media_id = await scene.arrives("wamid.1")
    await scene.bench.journal(told(said("wamid.1", type="image", image={"id": media_id})))
    await scene.bench.split()
    assert len(await scene.rows()) == 1


async def test_the_same_bytes_of_one_day_are_kept_once(scene: Scene) -> None:
    await scene.arrives("wamid.1")
    await scene.arrives("wamid.2")
    await scene.fetch()
    assert [row["status"] for row in await scene.rows()] == ["stored", "stored"]
    assert len(scene.files()) == 1


async def test_an_address_that_is_gone_is_asked_for_once_more(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    redeem = scene.meta._world.media.redeem
    answers: list[bool] = []

    def first_time_gone(word: str, *, now: float) -> Any:
        answers.append(bool(answers))
        return redeem(word, now=now) if answers[-1] else None

    monkeypatch.setattr(scene.meta._world.media, "redeem", first_time_gone)
    await scene.arrives("wamid.1")
    await scene.fetch()
    assert answers == [False, True]
    assert [(row["status"], row["attempts"]) for row in await scene.rows()] == [("stored", 1)]


async def test_what_fails_is_tried_again_later_and_then_is_a_dead_letter(scene: Scene) -> None:
    scene.meta.configure(media_url_seconds=0.0)
    media_id = await scene.arrives("wamid.1")
    for delay in DELAYS:
        await scene.fetch()
        (row,) = await scene.rows()
        assert (row["status"], row["error"]) == (
            "pending",
            "Meta's address of the file answered 404",
        )
        line = scene.bench.observed.lines("MEDIA_RETRY_SCHEDULED")[-1]
        assert line["delay"] == delay
        await scene.due_now()
    await scene.fetch()
    (row,) = await scene.rows()
    assert (row["status"], row["available_at"]) == ("failed", None)
    (letter,) = await scene.bench.letters()
    assert (letter["direction"], letter["stage"]) == ("inbound", "media")
    assert (letter["resolution_status"], letter["attempts"]) == ("pending", len(DELAYS) + 1)
    assert letter["next_retry_at"] is not None
    assert orjson.loads(letter["payload"])["media_id"] == media_id
    assert len(scene.bench.observed.lines("MEDIA_FAILED")) == 1
    assert scene.files() == []

    scene.meta.configure(media_url_seconds=300.0)  # what a retry of the letter does
    await scene.fetcher().again(row["id"])
    assert [row["status"] for row in await scene.rows()] == ["stored"]
    await scene.fetcher().again(row["id"])  # there is nothing left to do


async def test_a_retry_that_fails_says_so_and_writes_no_second_letter(scene: Scene) -> None:
    await scene.arrives("wamid.1")
    (row,) = await scene.rows()
    await scene.pool.execute(
        "update waemitter.inbound_media set status = 'failed', available_at = null"
    )
    scene.meta.configure(access_token="another")
    with pytest.raises(DownloadFailed):
        await scene.fetcher().again(row["id"])
    (row,) = await scene.rows()
    assert (row["status"], row["available_at"]) == ("failed", None)
    assert await scene.bench.letters() == []


async def test_other_bytes_than_meta_told_of_are_not_kept(scene: Scene) -> None:
    media_id = await scene.arrives("wamid.1")
    files = scene.meta._world.media._files
    files[media_id] = dataclasses.replace(files[media_id], content=JPEG[:-1])
    await scene.fetch()
    (row,) = await scene.rows()
    assert row["error"] == "what arrived has another digest than Meta told"
    assert scene.files() == []


async def test_a_file_that_is_too_large_is_a_dead_letter_at_once(scene: Scene) -> None:
    await scene.arrives("wamid.1")
    await scene.fetch(scene.fetcher(most_bytes=1000))
    (row,) = await scene.rows()
    (letter,) = await scene.bench.letters()
    assert (row["status"], row["attempts"]) == ("failed", 1)
    assert "WAEMITTER_MEDIA__MAX_BYTES" in letter["error"]


async def collected(client: GraphClient, url: str, **options: Any) -> bytes:
    chunks: list[bytes] = []

    async def write(chunk: bytes) -> None:
        chunks.append(chunk)

    await client.download_media(url, **{"most": 1 << 20, "timeout": 5, **options}, write=write)
    return b"".join(chunks)


async def test_a_download_stops_where_it_grows_too_large(scene: Scene) -> None:
    media_id = scene.meta._world.media.add("image/jpeg", JPEG).id
    url = (await scene.client.describe_media(media_id)).url
    assert await collected(scene.client, url) == JPEG
    with pytest.raises(DownloadFailed, match="larger than 1000 bytes") as failed:
        await collected(scene.client, url, most=1000)
    assert not failed.value.again


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/x", "file:///etc/passwd", "x", "http://[", ""])
async def test_the_token_goes_nowhere_but_to_meta_and_over_tls(scene: Scene, url: str) -> None:
    with pytest.raises(DownloadFailed, match="no https address"):
        await collected(scene.client, url)


async def test_without_an_answer_it_may_be_tried_again(scene: Scene) -> None:
    with pytest.raises(DownloadFailed, match="broke off") as failed:
        await collected(scene.client, "https://127.0.0.1:1/x")
    assert failed.value.again


class FullDisk:
    async def keep(self, file: Path, key: str, *, mime_type: str | None) -> str:
        del file, key, mime_type
        raise OSError(28, "No space left on device")

    async def read(self, path: str) -> bytes:
        raise FileNotFoundError(path)

    async def remove(self, path: str) -> None: ...


async def test_a_full_disk_is_waited_for(scene: Scene) -> None:
    await scene.arrives("wamid.1")
    await scene.fetch(scene.fetcher(shelf=FullDisk()))
    (row,) = await scene.rows()
    assert (row["status"], row["error"]) == ("pending", "No space left on device")
    assert scene.files() == []


async def test_a_file_that_its_daemons_die_with_is_given_up(scene: Scene) -> None:
    await scene.arrives("wamid.1")
    for _ in range(len(DELAYS) + 1):
        assert (await scene.fetcher().claim(4)).rows  # and it dies
        assert not (await scene.fetcher().claim(4)).rows
        await scene.due_now()
    await scene.fetch()
    assert [row["status"] for row in await scene.rows()] == ["failed"]


async def test_what_was_not_begun_is_given_back_without_spending_a_try(scene: Scene) -> None:
    await scene.arrives("wamid.1")
    fetcher = scene.fetcher()
    await fetcher.release((await fetcher.claim(4)).rows)
    (file,) = (await fetcher.claim(4)).rows
    assert file.tries == 1


async def test_only_files_of_the_daemons_own_numbers_are_claimed(scene: Scene) -> None:
    await scene.arrives("wamid.1")
    await scene.pool.execute("update waemitter.inbound_media set channel = 'another'")
    assert (await scene.fetcher().claim(4)) == (await scene.fetcher().claim(4))
    assert (await scene.fetcher().claim(4)).next_due is None


async def test_the_loop_fetches_what_the_splitter_rings_for(scene: Scene) -> None:
    bell = Bell()
    loop = DueLoop(
        scene.fetcher(),
        bell,
        capacity=Fixed(4),
        batch_size=4,
        sweep_interval=3600,
        jitter=lambda: 1.0,
    )
    stop = Stop(grace=5)

    async def story() -> None:
        for n in range(9):
            await scene.arrives(f"wamid.{n}", JPEG + bytes([n]))
            bell.ring()

        async def all_there() -> bool:
            return {row["status"] for row in await scene.rows()} == {"stored"}

        condition: Callable[[], Awaitable[bool] | bool] = all_there
        await eventually(condition, within=20)
        stop.request()

    async def tell(_: Stop) -> None:
        await story()

    assert await supervise({"media": loop.run, "story": tell}, stop)
    assert len(scene.files()) == 9


async def aged(scene: Scene, wamid: str, age: timedelta) -> None:
    await scene.pool.execute(
        "update waemitter.inbound_media set stored_at = stored_at - $2::interval, created_at = created_at - $2::interval"
        " where whatsapp_message_id = $1",
        wamid,
        age,
    )


async def test_files_go_when_their_time_is_over_and_rows_with_them(scene: Scene) -> None:
    for n in range(3):
        await scene.arrives(f"wamid.{n}", JPEG + bytes([n]))
    await scene.fetch()
    await aged(scene, "wamid.0", DAYS)
    assert await scene.retention().sweep() == 1
    assert [row["whatsapp_message_id"] for row in await scene.rows()] == ["wamid.1", "wamid.2"]
    assert [str(file) for file in scene.files()] == sorted(
        row["path"] for row in await scene.rows()
    )
    assert await scene.retention().sweep() == 0


async def test_a_file_that_a_younger_message_shares_stays(scene: Scene) -> None:
    await scene.arrives("wamid.0")
    await scene.arrives("wamid.1")
    await scene.fetch()
    await aged(scene, "wamid.0", DAYS)
    assert await scene.retention().sweep() == 1
    assert len(scene.files()) == 1
    await aged(scene, "wamid.1", DAYS)
    assert await scene.retention().sweep() == 1
    assert scene.files() == []


async def test_a_file_goes_with_its_message_once_its_day_is_over(scene: Scene) -> None:
    await scene.arrives("wamid.0")
    await scene.fetch()
    await scene.pool.execute("delete from waemitter.inbound_messages")
    assert await scene.retention().sweep() == 0
    await aged(scene, "wamid.0", timedelta(days=1, hours=1))
    assert await scene.retention().sweep() == 1
    assert (await scene.rows(), scene.files()) == ([], [])


async def test_what_a_dead_daemon_left_half_fetched_is_tidied_away(scene: Scene) -> None:
    old, young = (scene.root / PARTIAL / f"{PREFIX}{word}" for word in ("old", "young"))
    for each in (old, young):
        each.touch()
    os.utime(old, (time.time() - 90_000,) * 2)
    await scene.retention().sweep()
    assert scene.files() == [young]


async def test_an_outage_ends_neither_the_fetching_nor_the_sweeping(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: object, **__: object) -> None:
        raise DatabaseUnreachable("the database is away")

    await scene.arrives("wamid.1")
    (row,) = (await scene.fetcher().claim(4)).rows
    with monkeypatch.context() as patched:
        patched.setattr(InboundMediaStore, "keep", away)
        await scene.fetcher().work(row)
    assert scene.bench.observed.events.database_away
    await scene.due_now()
    await scene.fetch()
    assert [row["status"] for row in await scene.rows()] == ["stored"]
    assert len(scene.files()) == 1
