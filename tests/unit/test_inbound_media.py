"""What a message and Meta say of a file, and what a handler is told."""

import base64
import hashlib
from pathlib import Path

import orjson
import pytest

from waemitter.errors import UsageError
from waemitter.inbox.media.attachments import with_media
from waemitter.inbox.media.shelf import PARTIAL, Directory
from waemitter.inbox.media.store import File
from waemitter.whatsapp.inbound_media import (
    Attached,
    Described,
    DownloadFailed,
    attached,
    digest_of,
    extension,
    mime_of,
    read_description,
)
from waemitter.whatsapp.replies import Answered, NoAnswer
from waemitter.whatsapp.webhooks import Message, parse

PAYLOADS = Path(__file__).parents[1] / "payloads"
DIGEST = hashlib.sha256(b"file")
HEX, BASE64 = DIGEST.hexdigest(), base64.b64encode(DIGEST.digest()).decode()


@pytest.mark.parametrize(
    ("payload", "kind", "mime_type"),
    [
        ("msg_image_caption", "image", "image/jpeg"),
        ("msg_image_no_caption_no_url", "image", "image/jpeg"),
        ("msg_video", "video", "video/mp4"),
        ("msg_audio_voice", "audio", "audio/ogg"),
        ("msg_document", "document", "application/pdf"),
        ("msg_sticker_animated", "sticker", "image/webp"),
    ],
)
def test_each_kind_of_file_is_found_in_its_message(payload, kind, mime_type):
    (message,) = parse((PAYLOADS / f"{payload}.json").read_bytes())
    assert isinstance(message, Message)
    found = attached(message.raw)
    assert found is not None
    assert (found.kind, found.mime_type) == (kind, mime_type)
    assert found.sha256 == base64.b64decode(message.raw[kind]["sha256"]).hex()


@pytest.mark.parametrize(
    "message",
    [
        {"type": "text", "text": {"body": "hi"}},
        {"type": "text", "text": {"id": "1"}},
        {"type": "image"},
        {"type": "image", "image": "1"},
        {"type": "image", "image": {}},
        {"type": "image", "image": {"id": 5}},
        {"type": "image", "image": {"id": "../../me"}},
        {"type": "image", "image": {"id": "1?fields=name"}},
        {"type": ["image"], "image": {"id": "1"}},
        {},
    ],
)
def test_a_message_without_a_file_or_with_a_strange_id_has_none(message):
    assert attached(message) is None


def test_what_is_strange_beside_the_id_is_left_out():
    message = {"type": "image", "image": {"id": "1", "mime_type": "no type", "sha256": "zz"}}
    assert attached(message) == Attached("image", "1", None, None)


@pytest.mark.parametrize(
    ("word", "digest"),
    [(HEX, HEX), (HEX.upper(), HEX), (BASE64, HEX), ("", None), ("AAAA", None), (None, None)],
)
def test_digests_come_in_hex_and_in_base64(word, digest):
    assert digest_of(word) == digest


@pytest.mark.parametrize(
    ("word", "bare"),
    [
        ("audio/ogg; codecs=opus", "audio/ogg"),
        ("Image/JPEG", "image/jpeg"),
        ("image/../../x", None),
        ("", None),
        (7, None),
    ],
)
def test_a_type_is_bare(word, bare):
    assert mime_of(word) == bare


def test_extensions_are_of_a_closed_set():
    assert [extension(each) for each in ("image/jpeg", "text/html", None)] == [
        *(".jpg", ".bin", ".bin")
    ]


def test_a_description_is_read():
    told = {"url": "https://m/1", "mime_type": "image/png", "sha256": HEX, "file_size": "12"}
    assert read_description(Answered(200, orjson.dumps(told))) == Described(
        "https://m/1", "image/png", HEX, 12
    )
    bare = read_description(Answered(200, b'{"url": "https://m/1", "file_size": -1}'))
    assert bare == Described("https://m/1", None, None, None)


@pytest.mark.parametrize(
    "reply",
    [
        Answered(200, b"<html>"),
        Answered(200, b"[]"),
        Answered(200, b"{}"),
        Answered(400, b'{"error": {"code": 100, "message": "Unsupported get request"}}'),
        NoAnswer("TimeoutError"),
    ],
)
def test_what_is_no_description_is_a_failure_that_may_pass(reply):
    with pytest.raises(DownloadFailed) as failed:
        read_description(reply)
    assert failed.value.again


def test_a_handler_sees_the_file_beside_metas_object():
    image = {"id": "wamid.1", "type": "image", "image": {"id": "7"}}
    text = {"id": "wamid.2", "type": "text", "text": {"body": "hi"}}
    file = File("wamid.1", "stored", "/media/2026-07-01/a.jpg", "image/jpeg", HEX, 4)
    assert with_media([image, text], {"wamid.1": file}) == [
        {
            **image,
            "media": {
                "status": "stored",
                "path": "/media/2026-07-01/a.jpg",
                "mime_type": "image/jpeg",
                "sha256": HEX,
                "bytes": 4,
            },
        },
        text,
    ]
    assert "media" not in image


@pytest.mark.parametrize("status", ["pending", "failed"])
def test_of_a_file_that_is_not_there_a_handler_sees_why(status):
    image = {"id": "wamid.1", "type": "image", "image": {"id": "7"}}
    file = File("wamid.1", status, None, None, HEX, None)
    assert with_media([image], {"wamid.1": file}) == [{**image, "media": {"status": status}}]


async def test_a_directory_removes_what_it_keeps_and_nothing_else(tmp_path):
    shelf = Directory(tmp_path / "media")
    shelf.prepare()
    partial = shelf.staging / "partial"
    partial.write_bytes(b"file")
    (outside := tmp_path / "outside").write_bytes(b"mine")
    path = await shelf.keep(partial, f"2026-07-01/{HEX}.jpg", mime_type=None)
    (file,) = tmp_path.glob("media/2026-07-01/*")
    assert (str(file), file.read_bytes()) == (path, b"file")
    for strange in (str(outside), f"{tmp_path}/media/../outside", "s3://bucket/x", "x"):
        await shelf.remove(strange)
    await shelf.remove(path)
    await shelf.remove(path)
    assert {each.name for each in tmp_path.rglob("*")} == {"media", PARTIAL, "outside"}


def test_a_directory_that_cannot_be_written_to_is_told_at_the_start(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="cannot be written to"):
        Directory(tmp_path / "file").prepare()
