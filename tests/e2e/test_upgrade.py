"""An upgrade while messages are sent: the schema first, beside the old daemons; the daemons next; what they needed goes last."""

from __future__ import annotations

import asyncio

import pytest

from tests.e2e.scene import NO_LIMITS, UNLIMITED, Scene, until
from tests.upgrading import newer, older
from waemitter.db import schema
from waemitter.db.pool import open_connection
from waemitter.errors import WaemitterError

SENT = """
    select count(*) filter (where status in ('sent', 'delivered', 'read')) = count(*) and count(*) >= $1
    from waemitter.outbox_messages
"""


async def test_old_daemons_send_on_a_newer_schema_and_are_refused_by_one_that_left_them_behind(
    scene: Scene,
) -> None:
    async def all_sent(number: int) -> bool:
        return bool(await scene.value(SENT, number))

    async with open_connection(scene.dsn) as connection:
        await schema.apply(connection, older())
        daemon, _ = await scene.play(*NO_LIMITS, environ=UNLIMITED)
        await until(lambda: schema.daemons(connection))

        async with asyncio.TaskGroup() as group:  # the upgrade, in the middle of a campaign
            group.create_task(scene.enqueue(400))
            group.create_task(schema.apply(connection, newer(3)))
        await until(lambda: all_sent(400))

        other, _ = await scene.daemon(UNLIMITED)  # another of the old release starts, and works
        assert await daemon.stop() == 0
        await scene.enqueue(100)
        await until(lambda: all_sent(500))

        with pytest.raises(WaemitterError, match="1 of schema 1; schema 2 or newer is asked for"):
            await schema.apply(connection, newer())
        assert await other.stop() == 0
        await schema.apply(connection, newer())

    ended = await scene.command("run")
    assert ended.code == 4
    assert ended.complaints == [
        "waemitter: the schema is version 4, and this release of waemitter is made for 1: install one that is made for 2 or newer"
    ]
