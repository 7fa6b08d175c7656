"""`waemitter jobs` and `waemitter flags`, without a daemon."""

from __future__ import annotations

import asyncio
import json

import pytest
from typer.testing import CliRunner, Result

from waemitter.cli.main import app
from waemitter.db.pool import open_connection


@pytest.fixture
def run(dsn: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DATABASE_URL", dsn)

    async def prepare() -> None:
        async with open_connection(dsn) as connection:
            await connection.execute(
                "insert into waemitter.jobs (name, schedule) values ('retention', '0 2 * * *'), ('x', 'often')"
            )

    asyncio.run(prepare())

    def run(*arguments: str) -> Result:
        return CliRunner().invoke(app, arguments)

    return run


def test_jobs_are_listed_with_their_schedules_in_words(run) -> None:
    listed = run("jobs", "list")
    assert listed.exit_code == 0, listed.output
    retention, broken = listed.stdout.splitlines()
    assert retention.split("\t")[:3] == ["retention", "at 02:00 every day (UTC)", "True"]
    assert "write an interval" in broken
    (first, _) = json.loads(run("jobs", "list", "--json").stdout)
    assert (first["schedule"], first["last_status"], first["next_run"]) == (
        "0 2 * * *",
        None,
        "never",
    )


def test_without_a_daemon_a_run_is_asked_for_and_the_wait_says_so(run) -> None:
    waited = run("jobs", "run", "retention", "--wait", "0.05")
    assert (waited.exit_code, "is a daemon running?" in waited.stderr) == (1, True)
    asked = run("jobs", "run", "retention", "--wait", "0", "--json")
    assert (asked.exit_code, json.loads(asked.stdout)["status"]) == (0, "starting")


def test_jobs_are_disabled_and_enabled(run) -> None:
    assert run("jobs", "disable", "retention").exit_code == 0
    assert not json.loads(run("jobs", "list", "--json").stdout)[0]["enabled"]
    assert run("jobs", "enable", "retention").stdout == "retention is enabled\n"
    assert json.loads(run("jobs", "list", "--json").stdout)[0]["enabled"]
    unknown = run("jobs", "disable", "nothing")
    assert (unknown.exit_code, "jobs list" in unknown.stderr) == (1, True)


def test_flags_are_listed_and_turned(run) -> None:
    names = [flag["flag_name"] for flag in json.loads(run("flags", "list", "--json").stdout)]
    assert {"message_buffering", "enhanced_processing", "response_quality_enhancement"} <= set(
        names
    )
    assert "message_buffering\tTrue\t100\t" in run("flags", "list").stdout
    off = json.loads(run("flags", "disable", "message_buffering", "--json").stdout)
    assert off["is_enabled"] is False
    on = run("flags", "enable", "message_buffering", "--percent", "10")
    assert on.stdout == "message_buffering is on for 10 %\n"
    unknown = run("flags", "enable", "nothing")
    assert (unknown.exit_code, "flags list" in unknown.stderr) == (1, True)
    assert run("flags", "enable", "message_buffering", "--percent", "101").exit_code == 2
