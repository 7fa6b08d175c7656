"""A customer's picture, from the webhook to a file, and to whoever answers it."""

from __future__ import annotations

from pathlib import Path

import aiohttp
import asyncpg

from tests.e2e.scene import Scene, until

PICTURE = b"\xff\xd8\xff" + bytes(5000)


ANSWER = """
    create function public.answer(turn jsonb) returns jsonb language sql as $$
      select jsonb_build_object('messages', jsonb_build_array(jsonb_build_object('type', 'text',
        'text', jsonb_build_object('body', turn #>> '{messages,0,media,path}'))))
    $$
"""
ROUTES = """
    [inbox]
    buffer_mode = "off"

    [[routes]]
    name = "all"
    fallback = true
    handler = "sql"
    function = "public.answer"
"""


async def test_a_customers_picture_becomes_a_file_that_a_handler_sees(
    scene: Scene, tmp_path: Path
) -> None:
    await scene.fetch(ANSWER)
    (tmp_path / "waemitter.toml").write_text(ROUTES)
    await scene.play(
        environ={
            "WAEMITTER_MEDIA__DIRECTORY": str(tmp_path / "media"),
            "WAEMITTER_CONFIG": str(tmp_path / "waemitter.toml"),
        }
    )
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

    async def answered() -> str | None:
        rows = await scene.fetch(
            "select payload #>> '{text,body}' as told from waemitter.outbox_messages"
        )
        return rows[0]["told"] if rows else None

    assert await until(answered) == row["path"]
