"""The client's own part of an upload: what goes over the wire, and what comes back."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from aioresponses import aioresponses

from waemitter.whatsapp.client import GraphClient, open_session
from waemitter.whatsapp.errors import ErrorClass, Refused

NUMBER = "330900000000007"
GRAPH = "https://graph.example/v24.0"


@dataclass
class Meta:
    """Takes one upload at a time, and remembers it as it came."""

    url: str = ""
    status: int = 200
    answer: str = '{"id":"4490709327384033"}'
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    async def take(self, request: web.Request) -> web.Response:
        self.headers, self.body = dict(request.headers), await request.read()
        return web.Response(status=self.status, text=self.answer)


@pytest.fixture
async def meta() -> AsyncIterator[Meta]:
    made = Meta()
    app = web.Application()
    app.router.add_post(f"/v24.0/{NUMBER}/media", made.take)
    async with TestServer(app) as server:
        made.url = str(server.make_url("/v24.0"))
        yield made


async def upload(base_url: str, filename: str = "a.png") -> str | Refused:
    async with open_session(connections=1) as session:
        client = GraphClient(
            session,
            base_url=base_url,
            phone_number_id=NUMBER,
            access_token="EAAsecret",
            total_timeout=5,
            connect_timeout=2,
        )
        return await client.upload_media(
            io.BytesIO(b"the bytes"), mime_type="image/png", filename=filename, timeout=60
        )


async def test_a_form_with_the_product_the_type_and_the_file(meta: Meta) -> None:
    assert await upload(meta.url) == "4490709327384033"
    assert meta.headers["Authorization"] == "Bearer EAAsecret"
    assert meta.headers["Content-Type"].startswith("multipart/form-data; boundary=")
    boundary = meta.headers["Content-Type"].partition("boundary=")[2].encode()
    parts = [part.partition(b"\r\n\r\n") for part in meta.body.split(b"--" + boundary)[1:-1]]
    product, kind, file = ((head, body.removesuffix(b"\r\n")) for head, _, body in parts)
    assert b'name="messaging_product"' in product[0]
    assert product[1] == b"whatsapp"
    assert b'name="type"' in kind[0]
    assert kind[1] == b"image/png"
    assert b'name="file"; filename="a.png"' in file[0]
    assert b"Content-Type: image/png" in file[0]
    assert file[1] == b"the bytes"


async def test_a_name_cannot_break_out_of_its_header(meta: Meta) -> None:
    await upload(meta.url, 'a"; name="b.png')
    assert b'filename="a%22%3B%20name%3D%22b.png"' in meta.body
    with pytest.raises(ValueError, match="Forbidden"):
        await upload(meta.url, "a.png\r\nX-Evil: 1")


async def test_a_refusal_has_meta_s_words(meta: Meta) -> None:
    meta.status, meta.answer = 401, '{"error":{"code":190,"message":"Token expired"}}'
    found = await upload(meta.url)
    assert isinstance(found, Refused)
    assert (found.error_class, found.message) == (ErrorClass.PAUSE_ACCOUNT, "Token expired")


@pytest.mark.parametrize(
    ("error", "error_class"),
    [
        (TimeoutError(), ErrorClass.UNKNOWN),
        (aiohttp.ServerDisconnectedError(), ErrorClass.UNKNOWN),
        (aiohttp.ConnectionTimeoutError(), ErrorClass.RETRY),
    ],
)
async def test_trouble_on_the_network_is_a_refusal(
    error: Exception, error_class: ErrorClass
) -> None:
    with aioresponses() as graph:
        graph.post(f"{GRAPH}/{NUMBER}/media", exception=error)
        found = await upload(GRAPH)
    assert isinstance(found, Refused)
    assert found.error_class is error_class
