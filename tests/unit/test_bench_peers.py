"""Which of the peers can run here, and what is said of those that cannot."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from waemitter.ops.bench.peers import nodejs
from waemitter.ops.bench.peers.catalogue import GRAPHILE, PEERS, installed


@pytest.fixture(autouse=True)
def _forgetful() -> None:
    nodejs.folder.cache_clear()


def system_node(monkeypatch: pytest.MonkeyPatch, folder: Path, version: str) -> None:
    """The only Node there is, with an npm that installs nothing."""
    for name, told in {"node": f"echo {version}", "npm": "exit 1"}.items():
        path = folder / name
        path.write_text(f"#!/bin/sh\n{told}\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    monkeypatch.setattr(nodejs, "_of_the_wheel", lambda: None)
    monkeypatch.setattr("tempfile.tempdir", str(folder))


@pytest.mark.parametrize("version", ["v22.11.0", "v20.20.2", "gibberish"])
def test_an_old_node_is_told_with_what_it_takes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, version: str
) -> None:
    system_node(monkeypatch, tmp_path, version)
    told: list[str] = []
    assert installed([GRAPHILE], told.append) == []
    assert told == [f"{GRAPHILE} is not measured: {nodejs.HOW}"]


def test_without_a_registry_the_others_are_measured_all_the_same(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    system_node(monkeypatch, tmp_path, "v24.1.0")
    told: list[str] = []
    assert installed(["pgqueuer", "pg-boss"], told.append) == ["pgqueuer"]
    assert len(told) == 1
    assert "npm could not install it (CalledProcessError)" in told[0]


def test_each_peer_on_node_has_its_script() -> None:
    scripts = {path.stem.removesuffix("_worker") for path in nodejs.SCRIPTS.glob("*.mjs")}
    assert scripts == {
        "work",
        *(peer.module.removesuffix("_worker") for peer in PEERS.values() if peer.node),
    }
