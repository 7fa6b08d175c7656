"""`waemitter keys`, and what a daemon makes of the keys it left in the database."""

from __future__ import annotations

import json
import time

import asyncpg
import pytest
from typer.testing import CliRunner, Result

from waemitter.cli.main import app
from waemitter.web.auth import Authenticator, digest
from waemitter.web.store import KeyStore


@pytest.fixture
def keys(dsn: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DATABASE_URL", dsn)

    def run(*arguments: str) -> Result:
        return CliRunner().invoke(app, ["keys", *arguments])

    return run


def test_a_key_is_printed_once_and_only_its_hash_is_kept(keys) -> None:
    made = keys("create", "shop", "--scope", "send", "--scope", "read", "--expires", "90d")
    assert made.exit_code == 0, made.output
    secret = made.stdout.strip()
    assert secret.startswith("wae_")
    assert len(secret) > 40
    listed = keys("list", "--json")
    (row,) = json.loads(listed.stdout)
    assert (row["name"], row["scopes"], row["revoked_at"]) == ("shop", ["read", "send"], None)
    assert row["expires_at"] is not None
    assert secret not in listed.stdout + keys("list").stdout
    assert "digest" not in row


def test_json_has_the_key_too(keys) -> None:
    made = json.loads(keys("create", "ci", "--scope", "admin", "--json").stdout)
    assert made["key"].startswith("wae_")
    assert (made["name"], made["scopes"], made["expires_at"]) == ("ci", ["admin"], None)


def test_a_key_is_revoked_once(keys) -> None:
    made = json.loads(keys("create", "ci", "--scope", "read", "--json").stdout)
    assert keys("revoke", str(made["id"])).exit_code == 0
    again = keys("revoke", str(made["id"]))
    assert (again.exit_code, "no key" in again.stderr) == (1, True)


@pytest.mark.parametrize(
    "arguments",
    [
        ("create", "x"),
        ("create", "x", "--scope", "root"),
        ("create", "", "--scope", "read"),
        ("create", "x" * 101, "--scope", "read"),
        ("create", "x", "--scope", "read", "--expires", "soon"),
    ],
)
def test_what_makes_no_sense_is_a_usage_error(keys, arguments: tuple[str, ...]) -> None:
    assert keys(*arguments).exit_code == 2


async def test_only_good_keys_are_active_and_their_use_is_noted(dsn: str) -> None:
    async with asyncpg.create_pool(dsn, min_size=1, max_size=2) as pool:
        store = KeyStore(pool)
        ids = {}
        for name in ("good", "revoked", "expired"):
            made = await store.create(name, digest=digest(name), scopes=["read"], lasts=None)
            ids[name] = made["id"]
        await store.revoke(ids["revoked"])
        await pool.execute(
            "update waemitter.api_keys set expires_at = now() where id = $1", ids["expired"]
        )
        (key,) = await store.active([])
        assert (key.name, key.digest, key.scopes) == (
            "good",
            digest("good"),
            frozenset({"read"}),
        )
        assert (await store.list())[0]["last_used_at"] is None
        await store.active([ids["good"]])
        assert (await store.list())[0]["last_used_at"] is not None


async def test_a_daemon_finds_them(dsn: str) -> None:
    async with asyncpg.create_pool(dsn, min_size=1, max_size=2) as pool:
        await KeyStore(pool).create("shop", digest=digest("s"), scopes=["read"], lasts=None)
        auth = Authenticator(fixed={}, ring=KeyStore(pool), rate=0, clock=time.monotonic)
        assert [key.name for key in await auth._made_keys()] == ["shop"]
