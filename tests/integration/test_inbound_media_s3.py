"""Files in an S3-compatible bucket, which is a small one here: it takes objects, uploads in parts, and deletions."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from aiohttp import web

from waemitter.daemon import media
from waemitter.errors import UsageError
from waemitter.inbox.media.s3 import Bucket
from waemitter.settings import load

DONE = "<CompleteMultipartUploadResult><ETag>&quot;1&quot;</ETag></CompleteMultipartUploadResult>"
BEGUN = "<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>"


class S3:
    def __init__(self) -> None:
        self.objects: dict[str, tuple[str, bytes]] = {}
        self.parts: dict[int, bytes] = {}
        self.signed: set[str] = set()
        self.refuse = False

    async def answer(self, request: web.Request) -> web.Response:
        self.signed.add(request.headers.get("Authorization", "").partition("/")[0])
        if self.refuse:
            return web.Response(status=403, text="<Error><Code>AccessDenied</Code></Error>")
        if request.method == "GET":
            return self._read(request.path)
        body = await request.read()
        path, query = request.path, request.query
        if "delete" in query:
            keys = re.findall("<Key>(.*?)</Key>", body.decode())
            for key in keys:
                self.objects.pop(f"/files/{key}", None)
            deleted = "".join(f"<Deleted><Key>{key}</Key></Deleted>" for key in keys)
            return web.Response(text=f"<DeleteResult>{deleted}</DeleteResult>")
        if request.method == "POST":
            if "uploadId" not in query:
                return web.Response(text=BEGUN)
            whole = b"".join(self.parts[n] for n in sorted(self.parts))
            self.objects[path] = ("multipart", whole)
            return web.Response(text=DONE)
        if "partNumber" in query:
            self.parts[int(query["partNumber"])] = body
        else:
            self.objects[path] = (request.content_type, body)
        return web.Response(headers={"ETag": '"1"'})

    def _read(self, path: str) -> web.Response:
        if path not in self.objects:
            return web.Response(status=404, text="<Error><Code>NoSuchKey</Code></Error>")
        modified = {"ETag": '"1"', "Last-Modified": "Wed, 01 Jul 2026 09:30:00 GMT"}
        return web.Response(body=self.objects[path][1], headers=modified)


@pytest.fixture
async def s3() -> AsyncIterator[Any]:
    bucket = S3()
    app = web.Application(client_max_size=1 << 26)
    app.router.add_route("*", "/{path:.*}", bucket.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield SimpleNamespace(bucket=bucket, url=f"http://127.0.0.1:{runner.addresses[0][1]}")
    await runner.cleanup()


def opened(url: str, prefix: str = "wa/") -> Bucket:
    return Bucket(
        "files",
        prefix=prefix,
        endpoint=url,
        region="eu-west-1",
        access_key_id="KEY",
        secret_access_key="secret",
    )


@pytest.mark.parametrize(("prefix", "path"), [("wa/", "wa/day/a.jpg"), ("", "day/a.jpg")])
async def test_a_file_is_put_with_its_type_and_removed(
    s3: Any, tmp_path: Path, prefix: str, path: str
) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"picture")
    shelf = opened(s3.url, prefix)
    address = await shelf.keep(file, "day/a.jpg", mime_type="image/jpeg")
    assert address == f"s3://files/{path}"
    assert s3.bucket.objects == {f"/files/{path}": ("image/jpeg", b"picture")}
    assert s3.bucket.signed == {"AWS4-HMAC-SHA256 Credential=KEY"}
    assert await shelf.read(address) == b"picture"
    for strange in ("s3://another/x", "/media/2026-07-01/x.jpg", f"s3://files/{prefix}gone"):
        with pytest.raises(FileNotFoundError, match=f"^{strange}$"):
            await shelf.read(strange)
    await shelf.remove("s3://another/x")
    await shelf.remove("/media/2026-07-01/x.jpg")
    assert len(s3.bucket.objects) == 1
    await shelf.remove(address)
    await shelf.remove(address)
    assert s3.bucket.objects == {}


async def test_a_large_file_goes_in_parts(s3: Any, tmp_path: Path) -> None:
    file = tmp_path / "file"
    content = bytes(range(256)) * 50_000
    file.write_bytes(content)
    await opened(s3.url).keep(file, "day/a.mp4", mime_type="video/mp4")
    assert s3.bucket.objects["/files/wa/day/a.mp4"] == ("multipart", content)
    assert len(s3.bucket.parts) > 1


async def test_a_refusal_is_told_by_its_class_alone(s3: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"picture")
    s3.bucket.refuse = True
    for doing in (
        opened(s3.url).keep(tmp_path / "file", "day/a", mime_type=None),
        opened(s3.url).remove("s3://files/wa/day/a"),
    ):
        with pytest.raises(OSError, match=r"the bucket did not (write|delete) \(\w+\)") as failed:
            await doing
        assert s3.url not in str(failed.value)


def test_the_settings_lead_to_the_bucket(monkeypatch: pytest.MonkeyPatch) -> None:
    environ = {
        "WAEMITTER_MEDIA__S3_BUCKET": "files",
        "WAEMITTER_MEDIA__S3_ENDPOINT": "http://127.0.0.1:9000",
        "AWS_ACCESS_KEY_ID": "KEY",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_REGION": "eu-west-1",
    }
    settings = load(environ=environ, config=None).settings
    assert isinstance(media.shelf_of(settings), Bucket)
    monkeypatch.setitem(__import__("sys").modules, "waemitter.inbox.media.s3", None)
    with pytest.raises(UsageError, match=r"waemitter\[s3\]"):
        media.shelf_of(settings)
