"""Files for messages: the library, the route and the command, against the simulated platform."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
import orjson
import pytest
from typer.testing import CliRunner

from tests.serving import MemoryAudit, Site, authenticator, serving
from waemitter.cli.main import app
from waemitter.errors import PayloadError, UploadFailed
from waemitter.outbox.media.library import MediaLibrary, Number, plain_name
from waemitter.outbox.media.store import MediaStore
from waemitter.simulator import Options, Simulator
from waemitter.web.api.assembly import build_api
from waemitter.web.api.media import MediaUploads
from waemitter.whatsapp.client import GraphClient, open_session

NUMBER = "111000111"
PNG = b"\x89PNG\r\n\x1a\n" + bytes(1000)


@dataclass
class Scene:
    library: MediaLibrary
    pool: asyncpg.Pool[asyncpg.Record]
    meta: Simulator
    session: aiohttp.ClientSession

    def client(self) -> GraphClient:
        return GraphClient(
            self.session,
            base_url=self.meta.base_url,
            phone_number_id=NUMBER,
            access_token="token",
            total_timeout=5,
            connect_timeout=2,
        )

    async def upload(self, content: bytes = PNG, mime_type: str = "image/png", **more: Any) -> Any:
        return await self.library.upload(
            io.BytesIO(content), channel="default", mime_type=mime_type, filename="a.png", **more
        )

    def at_meta(self) -> dict[str, tuple[str, bytes]]:
        files = self.meta._world.media._files
        return {file.id: (file.mime_type, file.content) for file in files.values()}

    @asynccontextmanager
    async def api(self) -> AsyncIterator[Site]:
        made = build_api(
            MediaUploads(self.library).operations(),
            auth=authenticator(),
            audit=MemoryAudit(),
            version="1",
        )
        async with serving(api=made) as site:
            yield site


@pytest.fixture
async def scene(dsn: str) -> AsyncIterator[Scene]:
    async with (
        Simulator(Options(phone_number_ids=(NUMBER,), access_token="token")) as meta,
        asyncpg.create_pool(dsn, min_size=1, max_size=4) as pool,
        open_session(connections=4) as session,
    ):
        scene = Scene(MediaLibrary(MediaStore(pool), {}), pool, meta, session)
        scene.library = MediaLibrary(MediaStore(pool), {"default": Number(NUMBER, scene.client())})
        yield scene


async def test_a_file_goes_to_meta_once(scene: Scene) -> None:
    first = await scene.upload()
    again = await scene.upload()
    assert (first.reused, again.reused) == (False, True)
    assert first.stored == again.stored
    assert scene.at_meta() == {first.stored.media_id: ("image/png", PNG)}
    assert first.stored.sha256 == hashlib.sha256(PNG).hexdigest()
    assert first.stored.bytes == len(PNG)
    assert (first.stored.expires_at - first.stored.uploaded_at).days == 30


async def test_another_content_type_or_number_is_another_file(scene: Scene) -> None:
    ids = {
        (await scene.upload()).stored.media_id,
        (await scene.upload(PNG + b"1")).stored.media_id,
        (await scene.upload(mime_type="image/jpeg")).stored.media_id,
    }
    await scene.pool.execute("update waemitter.media set phone_number_id = 'another'")
    ids.add((await scene.upload()).stored.media_id)
    assert len(ids) == len(scene.at_meta()) == 4


@pytest.mark.parametrize(("left", "reused"), [("3 days 1 hour", True), ("2 days 23 hours", False)])
async def test_a_file_that_meta_is_about_to_drop_is_uploaded_anew(
    scene: Scene,
    left: str,
    reused: bool,  # noqa: FBT001 a column
) -> None:
    first = await scene.upload()
    await scene.pool.execute(
        "update waemitter.media set expires_at = clock_timestamp() + $1::text::interval", left
    )
    again = await scene.upload()
    assert again.reused is reused
    assert (again.stored.media_id == first.stored.media_id) is reused
    assert await scene.pool.fetchval("select count(*) from waemitter.media") == 1


async def test_anew_means_anew(scene: Scene) -> None:
    ids = {(await scene.upload(anew=True)).stored.media_id for _ in range(2)}
    assert len(ids) == 2


async def test_a_refusal_of_meta_is_told_and_nothing_is_kept(scene: Scene) -> None:
    scene.meta.configure(access_token="another")
    with pytest.raises(UploadFailed, match="Meta did not take the file"):
        await scene.upload()
    assert await scene.pool.fetchval("select count(*) from waemitter.media") == 0


async def test_what_meta_would_refuse_never_leaves(scene: Scene) -> None:
    for content, kind in ((PNG, "image/gif"), (b"", "image/png"), (bytes(6 << 20), "image/png")):
        with pytest.raises(PayloadError):
            await scene.upload(content, kind)
    assert scene.at_meta() == {}


async def test_a_channel_without_a_number_says_so(scene: Scene) -> None:
    with pytest.raises(PayloadError, match="dry run"):
        await MediaLibrary(MediaStore(scene.pool), {}).upload(
            io.BytesIO(PNG), channel="default", mime_type="image/png", filename="a"
        )


@pytest.mark.parametrize(
    ("given", "plain"),
    [
        ("a.png", "a.png"),
        ("../../etc/passwd", "passwd"),
        ("C:\\Users\\ada\\bill.pdf", "bill.pdf"),
        ('a"\r\nX: 1.png', "a___X__1.png"),
        ("..", "file"),
        ("", "file"),
        ("é" * 300 + ".pdf", "_" * 96 + ".pdf"),
    ],
)
def test_names_are_made_plain(given: str, plain: str) -> None:
    assert plain_name(given) == plain


async def test_the_route_takes_a_form(scene: Scene) -> None:
    async with scene.api() as site:
        for status in (201, 200):
            form = aiohttp.FormData()
            form.add_field("channel", "default")
            form.add_field("file", PNG, filename="../a.png", content_type="image/png")
            async with site.client.post("/api/media", data=form) as answer:
                assert answer.status == status, await answer.text()
                told = orjson.loads(await answer.read())
                assert told["reused"] is (status == 200)
                assert told["mimeType"] == "image/png"
                assert scene.at_meta().keys() == {told["mediaId"]}


async def test_the_route_takes_a_body_as_it_is(scene: Scene) -> None:
    async with scene.api() as site:
        path = "/functions/v1/api/media?channel=default&filename=b.png"
        headers = {"Content-Type": "image/png"}
        async with site.client.post(path, data=PNG, headers=headers) as answer:
            assert answer.status == 201
        assert [content for _, content in scene.at_meta().values()] == [PNG]


@pytest.mark.parametrize(
    ("path", "content_type", "body", "status", "field"),
    [
        ("/api/media", "image/gif", PNG, 422, "type"),
        ("/api/media", "image/png", b"", 422, "file"),
        ("/api/media?channel=other", "image/png", PNG, 422, "channel"),
        ("/api/media", "multipart/form-data", PNG, 400, None),
        ("/api/media", "multipart/form-data; boundary=x", b"--x--\r\n", 422, "file"),
        ("/api/media", "multipart/form-data; boundary=x", b"nothing", 400, None),
    ],
)
async def test_what_is_wrong_with_a_file_is_a_problem(
    scene: Scene, path: str, content_type: str, body: bytes, status: int, field: str | None
) -> None:
    async with (
        scene.api() as site,
        site.client.post(path, data=body, headers={"Content-Type": content_type}) as answer,
    ):
        problem = orjson.loads(await answer.read())
        assert (answer.status, answer.content_type) == (status, "application/problem+json")
        assert field == problem.get("errors", [{"field": None}])[0]["field"]
    assert scene.at_meta() == {}


async def test_too_large_is_told_before_the_file_is_read(scene: Scene) -> None:
    async with scene.api() as site:
        reader, writer = await site.connect()
        head = "POST /api/media HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\n"
        writer.write(f"{head}Content-Length: {200 << 20}\r\n\r\n".encode())
        assert b" 413 " in await reader.readline()
        writer.close()
        await writer.wait_closed()


async def test_meta_s_refusal_is_a_502(scene: Scene) -> None:
    scene.meta.configure(access_token="another")
    async with (
        scene.api() as site,
        site.client.post("/api/media", data=PNG, headers={"Content-Type": "image/png"}) as answer,
    ):
        assert answer.status == 502
        assert "Meta did not take the file" in await answer.text()


async def test_the_command_uploads_and_prints_the_id(
    scene: Scene, dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "menu.png"
    file.write_bytes(PNG)
    for name, value in {
        "DATABASE_URL": dsn,
        "WHATSAPP_API_URL": scene.meta.base_url,
        "WHATSAPP_ACCESS_TOKEN": "token",
        "WHATSAPP_PHONE_NUMBER_ID": NUMBER,
    }.items():
        monkeypatch.setenv(name, value)

    async def run(*arguments: str) -> Any:
        return await asyncio.to_thread(CliRunner().invoke, app, ["media", "upload", *arguments])

    first = await run(str(file))
    assert first.exit_code == 0, first.output
    assert scene.at_meta().keys() == {first.stdout.strip()}
    again = json.loads((await run(str(file), "--json")).stdout)
    assert (again["media_id"], again["reused"]) == (first.stdout.strip(), True)
    unknown = tmp_path / "menu.what"
    unknown.write_bytes(PNG)
    assert (await run(str(unknown))).exit_code == 2
    assert (await run(str(unknown), "--type", "image/gif")).exit_code == 1
    assert (await run(str(file), "--channel", "nowhere")).exit_code == 2
    monkeypatch.setenv("WAEMITTER_OUTBOX__SEND_ENABLED", "false")
    dry = await run(str(file))
    assert dry.exit_code == 2
    assert "dry run" in dry.stderr
