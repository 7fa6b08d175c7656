"""What the tests of deploy/ share: where it is, how to read it, which commands and programs there are."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any, Final

import yaml
from typer.testing import CliRunner

from waemitter.cli.main import app

ROOT: Final = Path(__file__).parents[1]
DEPLOY: Final = ROOT / "deploy"
COMPOSE: Final = DEPLOY / "compose/compose.yaml"


def documents(path: Path) -> list[Any]:
    return [document for document in yaml.safe_load_all(path.read_text()) if document]


def services() -> dict[str, Any]:
    """Those of compose.yaml."""
    (document,) = documents(COMPOSE)
    found: dict[str, Any] = document["services"]
    return found


def assert_runs(arguments: list[str]) -> None:
    """A command line that our own would take, as far as its name goes."""
    result = CliRunner().invoke(app, [*arguments, "--help"])
    assert result.exit_code == 0, result.output


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
