"""A model that can see is shown what customers photograph."""

from __future__ import annotations

from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest

from tests.agents import bodies, scene
from waemitter.inbox.media.shelf import Directory
from waemitter.turns.agents.pictures import LARGEST, MOST, Pictures

JPEG = b"\xff\xd8\xff a photograph"
DATA = f"data:image/jpeg;base64,{b64encode(JPEG).decode()}"


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    file = tmp_path / "2026-07-01" / "a.jpg"
    file.parent.mkdir()
    file.write_bytes(JPEG)
    return file


def photo(path: Path, **media: Any) -> dict[str, Any]:
    stored = {"status": "stored", "path": str(path), "mime_type": "image/jpeg", "bytes": len(JPEG)}
    return {"type": "image", "image": {"caption": "my car"}, "media": stored | media}


async def test_a_model_sees_an_image_once_and_remembers_that_there_was_one(
    dsn: str, kept: Path, tmp_path: Path
) -> None:
    async with scene(dsn, pictures=Pictures(Directory(tmp_path))) as s:
        s.model.model.script([{"text": "A red car."}, {"text": "Yes."}])

        assert bodies(await s.says("my car", messages=[photo(kept)])) == ["A red car."]
        await s.says("is it mine?")

        first, second = s.model.model.requests
        assert first["messages"][-1]["content"] == [
            {"type": "text", "text": "[an image] my car"},
            {"type": "image_url", "image_url": {"url": DATA}},
        ]
        assert second["messages"][1]["content"] == "[an image] my car"


async def test_a_model_that_cannot_see_is_told_in_words(dsn: str, kept: Path) -> None:
    async with scene(dsn) as s:
        await s.says("my car", messages=[photo(kept)])

        assert s.shown()[-1] == ("user", "[an image] my car")


async def test_what_is_no_image_of_the_house_is_left_out(kept: Path, tmp_path: Path) -> None:
    pictures = Pictures(Directory(tmp_path / "other"))
    assert await pictures.of([photo(kept)]) == []

    pictures = Pictures(Directory(tmp_path))
    assert await pictures.of([photo(kept)]) == [DATA]
    assert await pictures.of([photo(kept)] * (MOST + 1)) == [DATA] * MOST
    for wrong in (
        photo(kept, status="pending"),
        photo(kept, mime_type="image/svg+xml"),
        photo(kept, bytes=LARGEST + 1),
        photo(kept.with_name("gone.jpg")),
        photo(kept) | {"type": "document"},
        {"type": "image", "image": {}},
    ):
        assert await pictures.of([wrong]) == []
