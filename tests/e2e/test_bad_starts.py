from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator

import pytest

from tests.e2e.scene import Ended, Scene, command, until

NOBODY_LISTENS = "http://127.0.0.1:9/v24.0"


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield listening.getsockname()[1]


SETTINGS = {
    "DATABASE_URL": "postgresql:///nowhere",
    "WHATSAPP_ACCESS_TOKEN": "simulated",
    "WHATSAPP_PHONE_NUMBER_ID": "111000111",
}
CLOSED = "postgresql://app:hunter2@127.0.0.1:9/app"
MYSQL = "mysql://app:hunter2@127.0.0.1/app"

WRONG = {
    ("WHATSAPP_ACCESS_TOKEN", ""): (2, "WHATSAPP_ACCESS_TOKEN"),
    ("WHATSAPP_PHONE_NUMBER_ID", ""): (2, "WHATSAPP_PHONE_NUMBER_ID"),
    ("DATABASE_URL", ""): (2, "DATABASE_URL"),
    ("DATABASE_URL", CLOSED): (1, "is not listening there"),
    ("DATABASE_URL", MYSQL): (2, "postgresql://"),
    ("WAEMITTER_OUTBOX__LEESE", "3s"): (2, "WAEMITTER_OUTBOX__LEASE"),
    ("WAEMITTER_OUTBOX__LEASE", "soon"): (2, "WAEMITTER_OUTBOX__LEASE"),
    ("WAEMITTER_OUTBOX__LEASE", "1s"): (2, "must be more than"),
    ("WAEMITTER_CONFIG", "/nowhere/waemitter.toml"): (2, "/nowhere/waemitter.toml"),
}


async def test_what_keeps_a_daemon_from_starting_is_told_in_one_line():
    together = asyncio.Semaphore(4)  # each takes a second or two of a processor

    async def run(name: str, value: str) -> Ended:
        async with together:
            return await command("run", environ=SETTINGS | {name: value})

    ends = await asyncio.gather(*(run(name, value) for name, value in WRONG))

    for (name, (code, complaint)), ended in zip(WRONG.items(), ends, strict=True):
        assert (ended.code, len(ended.complaints)) == (code, 1), (name, ended.err)
        assert complaint in ended.complaints[0], name
        assert "hunter2" not in ended.err
        assert ended.out == ""


async def test_a_taken_port_is_a_wrong_setting(scene: Scene, taken_port: int):
    ended = await scene.command("run", environ={"WAEMITTER_HTTP__PORT": str(taken_port)})

    assert ended.code == 2, ended.err
    assert len(ended.complaints) == 1, ended.err
    assert f"cannot listen on 127.0.0.1:{taken_port}" in ended.complaints[0]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ("drop schema waemitter cascade", "run `waemitter schema apply`"),
        (
            "create or replace function waemitter.schema_version() returns integer language sql immutable as 'select 99'",
            "version 99",
        ),
    ],
    ids=["missing", "newer"],
)
async def test_another_schema_is_refused_with_a_code_of_its_own(
    scene: Scene, change: str, complaint: str
):
    await scene.fetch(change)

    ended, status = await asyncio.gather(scene.command("run"), scene.command("schema", "status"))

    assert ended.code == status.code == 4, ended.err
    assert len(ended.complaints) == 1, ended.err
    assert complaint in ended.complaints[0]


async def test_a_missing_schema_is_applied_when_asked_for(scene: Scene):
    await scene.fetch("drop schema waemitter cascade")
    await scene.simulate()

    _, address = await scene.daemon(arguments=["--apply-schema"])
    await scene.announce(address)

    await scene.reaches(await scene.send("+14155550123"), "read")


async def test_with_an_unreachable_graph_api_the_daemon_runs_and_its_rows_wait(scene: Scene):
    daemon, _ = await scene.daemon(
        {"WHATSAPP_API_URL": NOBODY_LISTENS, "WAEMITTER_OUTBOX__RETRY_DELAYS": "60s"}
    )
    message_id = await scene.send("+14155550123")

    row = await until(lambda: _tried(scene, message_id))

    assert row["status"] == "queued"
    assert "ClientConnectorError" in row["error_message"]
    assert daemon.process.returncode is None


async def _tried(scene: Scene, message_id: int):
    row = await scene.row(message_id)
    return row if row["error_message"] and row["status"] == "queued" else None
