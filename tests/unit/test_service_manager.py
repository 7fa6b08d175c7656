"""What systemd is told, and when it is told nothing."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.support import eventually
from waemitter.runtime.service_manager import ServiceManager
from waemitter.runtime.supervise import Stop
from waemitter.runtime.vitals import MARGIN, Vitals


class Manager:
    """systemd's end of the socket."""

    def __init__(self, address: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(address.replace("@", "\0", 1))
        self.socket.settimeout(0)
        self.told: list[str] = []

    def heard(self) -> list[str]:
        while True:
            try:
                self.told += self.socket.recv(4096).decode().split("\n")
            except BlockingIOError:
                return self.told


class Observer:
    def __init__(self) -> None:
        self.stalled: list[list[str]] = []

    def loops_stalled(self, *, loops: Sequence[str]) -> None:
        self.stalled.append(list(loops))


@pytest.fixture(params=["path", "abstract"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "notify") if request.param == "path" else f"@waemitter-{os.getpid()}"


@pytest.fixture
def manager(address: str) -> Iterator[Manager]:
    manager = Manager(address)
    yield manager
    manager.socket.close()


async def test_it_is_told_of_readiness_life_and_the_end(address: str, manager: Manager) -> None:
    stop, observer = Stop(grace=1), Observer()
    service = ServiceManager(address, watchdog=0.03)
    service.ready()
    async with asyncio.TaskGroup() as group:
        group.create_task(service.run(stop, observer=observer, status=lambda: "3 queued"))
        await eventually(lambda: manager.heard().count("WATCHDOG=1") >= 3)
        stop.request()
    told = manager.heard()
    assert told[:3] == ["READY=1", "STATUS=3 queued", "WATCHDOG=1"]
    assert told[-2:] == ["STOPPING=1", "STATUS=finishing what it holds"]
    assert observer.stalled == []


async def test_a_stalled_loop_starves_the_watchdog_and_is_named_once(
    address: str, manager: Manager
) -> None:
    stop, observer = Stop(grace=1), Observer()
    loop = object()
    stop.vitals.promise(loop, "sender", -MARGIN - 1)  # its word is a second old
    service = ServiceManager(address, watchdog=0.03)
    async with asyncio.TaskGroup() as group:
        group.create_task(service.run(stop, observer=observer, status=lambda: "3 queued"))
        await eventually(lambda: manager.heard().count("STATUS=stalled: sender") >= 3)
        assert "WATCHDOG=1" not in manager.heard()
        stop.vitals.promise(loop, "sender", 60)
        await eventually(lambda: "WATCHDOG=1" in manager.heard())
        stop.request()
    assert observer.stalled == [["sender"]]


async def test_a_manager_that_is_away_harms_nobody(tmp_path: Path) -> None:
    ServiceManager(str(tmp_path / "nobody")).ready()
    ServiceManager(None).ready()


@pytest.mark.parametrize(
    ("environ", "address", "watchdog"),
    [
        ({}, None, None),
        ({"NOTIFY_SOCKET": "/run/n"}, "/run/n", None),
        ({"NOTIFY_SOCKET": "@n", "WATCHDOG_USEC": "3000000"}, "\0n", 3.0),
        ({"NOTIFY_SOCKET": "/run/n", "WATCHDOG_USEC": "1", "WATCHDOG_PID": "1"}, "/run/n", None),
        ({"NOTIFY_SOCKET": "/run/n", "WATCHDOG_USEC": "no"}, "/run/n", None),
    ],
)
def test_the_environment_says_where_and_how_often(
    environ: dict[str, str], address: str | None, watchdog: float | None
) -> None:
    found = ServiceManager.from_environment(environ)
    assert (found._address, found._watchdog) == (address, watchdog)


def test_a_loop_is_overdue_when_its_word_has_passed_and_not_before() -> None:
    now = 0.0
    vitals = Vitals(lambda: now)
    one, other = object(), object()
    vitals.promise(one, "sender", 60)
    vitals.promise(other, "splitter", 3600)
    now = 60 + MARGIN
    assert vitals.overdue() == []
    now += 0.1
    assert vitals.overdue() == ["sender"]
    vitals.promise(one, "sender", 60)
    assert vitals.overdue() == []
    now += 7200
    vitals.ended(one)
    assert vitals.overdue() == ["splitter"]
