"""A customer's picture, from the webhook to a file."""

from __future__ import annotations

from pathlib import Path

import aiohttp
import asyncpg

from tests.e2e.scene import Scene, until

PICTURE = b"\xff\xd8\xff" + bytes(5000)


async def test_a_customers_picture_becomes_a_file(scene: Scene, tmp_path: Path) -> None:
    await scene.play(environ={"WAEMITTER_MEDIA__DIRECTORY": str(tmp_path / "media")})
    control = scene.graph_url.rpartition("/")[0] + "/_simulator"
    async with aiohttp.ClientSession(raise_for_status=True) as session:
        async with session.post(
            f"{control}/media", data=PICTURE, headers={"Content-Type": "image/jpeg"}
        ) as answer:
            media = await answer.json()
        message = {"type": "image", "image": {"id": media["id"], "caption": "here"}}
        wish = {"from": "14155550123", "message": message}
        number = await scene.value(
            "select phone_number_id from waemitter.channels where name = 'default'"
        )
        await session.post(
            f"{control}/customers/messages", json={**wish, "phone_number_id": number}
        )

    async def stored() -> asyncpg.Record | None:
        rows = await scene.fetch("select * from waemitter.inbound_media where status = 'stored'")
        return rows[0] if rows else None

    row = await until(stored)
    assert (row["mime_type"], row["bytes"]) == ("image/jpeg", len(PICTURE))
    (file,) = (tmp_path / "media").glob("????-??-??/*.jpg")
    assert (str(file), file.read_bytes()) == (row["path"], PICTURE)
