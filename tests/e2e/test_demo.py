from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.e2e.scene import command, without_settings
from tests.support import eventually, scratch
from waemitter.ops.processes import Child, child

PARTS = 4  # the demo itself, the simulator, the daemon and the postmaster, at the least


@pytest.fixture
def place() -> Iterator[Path]:
    """Where the demo puts its Postgres; a process is known by it, whoever has become its parent."""
    with scratch() as directory:
        directory.chmod(0o755)
        yield directory


@pytest.mark.slow
async def test_the_demo_comes_to_its_end_and_leaves_nothing_running(place: Path):
    ended = await command(
        *("demo", "--messages", "40", "--exit", "--json"),
        environ={"TMPDIR": str(place)},
        within=60,
    )

    summary = ended.json()
    assert (ended.code, summary["duplicates"]) == (0, 0)
    assert summary["messages"] == summary["delivered"] + summary["failed"] == 40
    assert summary["read"] > 0
    assert summary["peak"] <= 80
    assert summary["answers"] >= 2
    assert "Order 17 left our house" in ended.err
    assert_nothing_left(place)


async def test_a_demo_that_is_interrupted_leaves_nothing_running(place: Path):
    environ = without_settings() | {"TMPDIR": str(place)}
    async with child("the demo", ["-m", "waemitter", "demo"], environ=environ) as demo:
        await eventually(lambda: said(demo, "are in the outbox"), within=30)
        assert len(running_in(place)) >= PARTS

        demo.signal(signal.SIGINT)

        assert await demo.process.wait() == 0
        assert said(demo, "nothing is left running")
        assert not said(demo, "Traceback")
    assert_nothing_left(place)


async def test_a_bench_that_is_told_to_end_leaves_nothing_running(place: Path):
    environ = without_settings() | {"TMPDIR": str(place)}
    arguments = ["-m", "waemitter", "bench", "--messages", "1000", "--rate", "10"]
    async with child("the bench", arguments, environ=environ) as bench:
        await eventually(
            lambda: any("waemitter run" in one for one in running_in(place)), within=30
        )

        bench.signal(signal.SIGTERM)

        assert await bench.process.wait() == 128 + signal.SIGTERM
    assert_nothing_left(place)


def assert_nothing_left(place: Path) -> None:
    assert running_in(place) == []
    assert list(place.iterdir()) == []


def said(running: Child, words: str) -> bool:
    return any(words in line for line in running.lines)


def running_in(place: Path) -> list[str]:
    """Processes that were started with this place in their environment, or live in it."""
    found = []
    for process in psutil.process_iter():
        if process.pid == os.getpid():
            continue
        try:
            traces = (process.cwd(), *process.cmdline(), *process.environ().values())
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            continue
        if any(str(place) in trace for trace in traces):
            found.append(" ".join(process.cmdline()))
    return found
