import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from waemitter.cli.check import check

SECRETS = {
    "DATABASE_URL": "postgresql://app:s3cret@db/app",
    "WAEMITTER_DATABASE__LISTEN_URL": "postgresql://app@db/app?password=s3cret",
    "WHATSAPP_ACCESS_TOKEN": "s3cret",
    "WHATSAPP_APP_SECRET": "s3cret,s3cret2",
    "WHATSAPP_VERIFY_TOKEN": "s3cret",
    "WAEMITTER_HTTP__API_KEYS": "s3cret=send",
    "OPENAI_API_KEY": "s3cret",
    "WAEMITTER_ALERTS__WEBHOOK_URL": "https://hooks.test/s3cret",
    "WORKER_SECRET": "s3cret",
}

CHANNELS = """
[channel]
messages_per_second = 50
[[channels]]
name = "shop"
phone_number_id = 111
access_token_env = "SHOP_TOKEN"
app_secret_env = "SHOP_SECRETS"
messages_per_second = 80
unconfirmed_policy = "hold"
[[channels]]
name = "desk"
phone_number_id = "222"
"""


@pytest.fixture(autouse=True)
def working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def run_check(environ, *arguments):
    app = typer.Typer()
    app.command()(check)
    # Whatever the surroundings set would be reported too.
    cleared = {"WAEMITTER_CONFIG": None, "WAEMITTER_TEST_POSTGRES": None}
    return CliRunner().invoke(app, arguments, env=cleared | environ)


def test_check_prints_each_value_with_its_origin_and_no_secret():
    Path("waemitter.toml").write_text("[outbox]\nlease = '20s'\n")
    result = run_check(SECRETS | {"SUPABASE_URL": "x", "SESSION_TTL_HOURS": "2"})

    lines = [" ".join(line.split()) for line in result.stdout.splitlines()]
    assert result.exit_code == 0
    assert "outbox.lease 20s waemitter.toml" in lines
    assert "sessions.ttl 2h old name SESSION_TTL_HOURS" in lines
    assert "database.url postgresql://app:********@db/app environment DATABASE_URL" in lines
    assert "unused: SUPABASE_URL: the database is reached through DATABASE_URL" in lines
    assert "s3cret" not in result.output


def test_check_prints_a_table_on_a_terminal():
    terminal = {"FORCE_COLOR": "1", "NO_COLOR": None, "COLUMNS": "200"}
    result = run_check(SECRETS | terminal | {"WAEMITTER_HTTP__HOST": "[bold]"})

    host = next(line for line in result.stdout.splitlines() if "http.host" in line)
    assert host.split() == ["http.host", "[bold]", "environment", "WAEMITTER_HTTP__HOST"]
    assert "\x1b[1m" in result.stdout.splitlines()[0]
    assert "s3cret" not in result.output


def test_check_prints_json():
    Path("waemitter.toml").write_text(CHANNELS)
    found = json.loads(run_check(SECRETS | {"SHOP_TOKEN": "s3cret"}, "--json").stdout)

    assert found["settings"]["outbox.lease"] == {
        "value": 15.0,
        "origin": "default",
        "effective": True,
    }
    assert found["settings"]["slo.p95"]["effective"] is True
    assert found["settings"]["channels.shop.access_token"]["value"] == "********"
    assert found["settings"]["channels.desk.access_token"]["origin"] == (
        "whatsapp.access_token, environment WHATSAPP_ACCESS_TOKEN"
    )
    assert found["unused"] == {"WORKER_SECRET": "WAEMITTER_HTTP__API_KEYS is set and wins"}
    assert "s3cret" not in json.dumps(found)


def test_check_ends_with_two_and_a_line_on_stderr_for_each_problem(tmp_path):
    (tmp_path / "other.toml").write_text("[http]\nport = 'x'\n")
    result = run_check({"WAEMITTER_QQQ": "1"}, "--config", "other.toml")

    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.splitlines() == [
        "WAEMITTER_QQQ is not a setting",
        "other.toml: http.port must be a whole number (it is 'x')",
    ]
