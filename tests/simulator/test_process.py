import asyncio
import json
import signal
import sys

import aiohttp
import pytest


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_it_says_where_it_listens_and_in_the_end_what_it_saw(number):
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "waemitter.simulator", "--port", "0"),
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    started = json.loads(await process.stdout.readline())
    assert started["event"] == "SIMULATOR_STARTED"
    body = {"messaging_product": "whatsapp", "to": "+15550101201", "text": {"body": "hi"}}
    headers = {"Authorization": "Bearer token"}
    async with (
        aiohttp.ClientSession() as session,
        session.post(started["base_url"] + "/1/messages", json=body, headers=headers) as reply,
    ):
        assert reply.status == 200
    process.send_signal(number)
    ended = json.loads(await process.stdout.readline())
    assert ended["event"] == "SIMULATOR_DRAINED"
    assert ended["report"]["accepted"] == 1
    assert await process.wait() == 0


async def test_wrong_flags_are_a_usage_error():
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "waemitter.simulator", "--read-probability", "7"),
        stderr=asyncio.subprocess.PIPE,
    )
    _, complaint = await process.communicate()
    assert process.returncode == 2
    assert b"read_probability: must be a probability" in complaint
