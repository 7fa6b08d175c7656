"""The README and docs/ tell what is true: their SQL runs, their commands exist, their links lead somewhere."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import asyncpg
import pytest
from typer.testing import CliRunner

from waemitter.cli.main import HOMES, app

ROOT = Path(__file__).parents[2]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
COMMANDS = sorted(
    {
        match
        for page in PAGES
        for match in re.findall(
            r"(?:^\s*(?:\$ )?|`)waemitter ((?:[a-z]+)(?: (?:list|show|retry|cancel|apply|print|status))?)",
            page.read_text(),
            re.MULTILINE,
        )
    }
)


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
async def test_the_sql_of_a_page_runs(
    page: Path, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    for block in blocks(page, "sql"):
        await connection.execute(block)


async def test_the_readme_s_insert_puts_a_message_in_the_queue(
    connection: asyncpg.Connection[asyncpg.Record],
) -> None:
    (insert,) = blocks(ROOT / "README.md", "sql")
    await connection.execute(insert)
    row = await connection.fetchrow("select recipient, status from waemitter.outbox_messages")
    assert row is not None
    assert tuple(row) == ("+14155550123", "queued")


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_that_a_page_names_exists(command: str) -> None:
    result = CliRunner().invoke(app, [*command.split(), "--help"])
    assert result.exit_code == 0, result.output


def test_every_command_is_in_the_documentation() -> None:
    documented = (ROOT / "docs/cli.md").read_text()
    assert {name for name in HOMES if f"waemitter {name}" not in documented} == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("target", ["demo", "test", "lint", "bench"])
def test_make_knows_the_targets_that_are_promised(target: str) -> None:
    result = subprocess.run(
        ["make", "--dry-run", target], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
