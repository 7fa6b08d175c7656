"""`waemitter events`, without a daemon."""

from __future__ import annotations

import asyncio
import json

import pytest
from typer.testing import CliRunner, Result

from tests.event_rows import stream_at
from waemitter.cli.main import app


@pytest.fixture
def run(dsn: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DATABASE_URL", dsn)

    async def prepare() -> None:
        async with stream_at(dsn) as stream:
            await stream.subscribe()
            await stream.put("messages/1")
            await stream.drain()
            await stream.put("messages/2")

    asyncio.run(prepare())

    def run(*arguments: str) -> Result:
        return CliRunner().invoke(app, ["events", *arguments])

    return run


def test_subscriptions_are_listed_with_how_they_fare(run) -> None:
    listed = run("list")
    assert listed.exit_code == 0, listed.output
    assert listed.stdout.split("\t")[:5] == ["shop", "webhook", "https://shop.test", "healthy", "1"]
    (shop,) = json.loads(run("list", "--json").stdout)
    assert (shop["state"], shop["last_error"]) == ("healthy", None)
    assert shop["last_delivered_at"] is not None


def test_a_subscription_is_disabled_enabled_and_forgotten(run) -> None:
    assert run("disable", "shop").stdout == "shop is disabled\n"
    assert json.loads(run("list", "--json").stdout)[0]["state"] == "disabled: operator"
    disabled = run("test", "shop")
    assert (disabled.exit_code, "waemitter events enable shop" in disabled.stderr) == (2, True)
    assert run("enable", "shop").stdout == "shop is enabled\n"
    assert run("forget", "shop").stdout == "shop is forgotten\n"
    unknown = run("enable", "shop")
    assert (unknown.exit_code, "[events.shop] in waemitter.toml" in unknown.stderr) == (1, True)


def test_what_was_delivered_can_be_delivered_again(run) -> None:
    assert json.loads(run("redeliver", "shop", "--since", "1h", "--json").stdout)["events"] == 1
    wrong = run("redeliver", "shop", "--since", "yesterday")
    assert (wrong.exit_code, "--since must be a duration" in wrong.stderr) == (2, True)


def test_without_a_daemon_a_test_says_so(run) -> None:
    waited = run("test", "shop", "--wait", "0.05", "--json")
    assert (waited.exit_code, json.loads(waited.stdout)["delivered"]) == (1, False)
    assert "is a daemon with this subscription running?" in waited.stderr
