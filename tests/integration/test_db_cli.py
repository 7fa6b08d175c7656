"""`waemitter schema …`, as it is typed."""

from __future__ import annotations

import asyncio
import json

import pytest
from typer.testing import CliRunner, Result

from waemitter.cli.schema import app
from waemitter.db import schema
from waemitter.db.pool import connect_listener


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DATABASE_URL", "PGHOST", "PGDATABASE", "PGSERVICE"):
        monkeypatch.delenv(name, raising=False)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments)


def test_apply_then_status_on_every_version(any_postgres_version: str) -> None:
    before = run("status", "--json", "--database-url", any_postgres_version)
    applied = run("apply", "--database-url", any_postgres_version)
    after = run("status", "--json", "--database-url", any_postgres_version)

    assert before.exit_code == 4
    facts = {"supported": 1, "pending": [], "daemons": {}}
    assert json.loads(before.stdout) == {"installed": None, "ok": False} | facts
    assert "run `waemitter schema apply`" in before.stderr
    assert applied.exit_code == 0, applied.output
    assert "version 1" in applied.stdout
    assert after.exit_code == 0
    assert json.loads(after.stdout) == {"installed": 1, "ok": True} | facts


def test_the_database_is_taken_from_the_environment(
    dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", dsn)

    result = run("status")

    assert result.exit_code == 0
    assert [line.split() for line in result.stdout.splitlines()] == [
        ["installed", "1"],
        ["supported", "1"],
        ["pending", "none"],
        ["daemons", "none"],
        ["ok", "yes"],
    ]


@pytest.mark.parametrize("arguments", [(), ("--since", "1")])
def test_print_needs_no_database(arguments: tuple[str, ...]) -> None:
    result = run("print", *arguments)

    assert result.exit_code == 0
    assert result.stdout == schema.text()  # there is no migration yet


def test_status_counts_the_daemons_by_what_they_were_made_for(dsn: str) -> None:
    async def status_beside_one() -> Result:
        listening = await connect_listener(dsn, application_name=schema.LISTENER)
        try:
            return await asyncio.to_thread(run, "status", "--database-url", dsn)
        finally:
            await listening.close()

    assert "1 made for 1" in asyncio.run(status_beside_one()).stdout


def test_an_unreachable_database_is_exit_1() -> None:
    result = run("apply", "--database-url", "postgresql://me:hunter2@/shop?host=/nowhere")

    assert result.exit_code == 1
    assert "/nowhere" in result.stderr
    assert "hunter2" not in result.output


@pytest.mark.parametrize("arguments", [[], ["--database-url", "mysql://me:hunter2@host/shop"]])
def test_no_usable_address_is_exit_2(arguments: list[str]) -> None:
    result = run("apply", *arguments)

    assert result.exit_code == 2
    assert "hunter2" not in result.output
