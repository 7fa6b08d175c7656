"""`waemitter campaign …` against a database alone: what takes effect, what is refused, and what it says."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from decimal import Decimal
from pathlib import Path
from typing import TypeAlias

import pytest
from typer.testing import CliRunner, Result

from tests.outbox_rows import outbox_at, status
from waemitter.cli.main import app

Run: TypeAlias = Callable[..., Awaitable[Result]]


@pytest.fixture
def run(dsn: str) -> Run:
    """Run `waemitter campaign …` on the test's database, in a thread: it has a loop of its own."""
    environ = {"DATABASE_URL": dsn}

    async def invoked(*arguments: str, stdin: str | None = None) -> Result:
        def invoke() -> Result:
            return CliRunner().invoke(app, ["campaign", *arguments], input=stdin, env=environ)

        return await asyncio.to_thread(invoke)

    return invoked


async def test_what_an_operator_does_takes_effect_or_says_why_not(run: Run, connection):
    made = await run(
        *("create", "June", "--csv", "-", "--template", "shipped", "--quiet-hours", "21:00-08:00"),
        *("--rate", "5", "--at", "2020-01-01T09:00Z", "--category", "utility"),
        stdin="+14155550001,17\n+14155550002,18\n",
    )
    assert (
        made.stdout == "campaign 1 is draft: 2 queued, 0 suppressed, 0 had it already, 0 rejected\n"
    )

    told = [
        (await run(*words, "1")).exit_code
        for words in (["send"], ["pause"], ["pause"], ["send"], ["resume"], ["cancel"], ["send"])
    ]
    table = await run("status", "1")
    listed = await run("status")

    assert told == [0, 0, 2, 2, 0, 0, 2]
    assert "status\tcancelled\n" in table.stdout
    assert "cancelled\t2\n" in table.stdout
    assert listed.stdout.startswith("1\tJune\tcancelled\t100%\t2\t0\t")
    row = await connection.fetchrow("select * from waemitter.outbox_messages order by id limit 1")
    assert '"text": "17"' in row["payload"]
    assert (row["time_zone"], row["category"]) == ("America/Los_Angeles", "utility")


async def test_more_recipients_join_a_campaign_each_once(run: Run, tmp_path: Path):
    people = tmp_path / "people.csv"
    people.write_text("phone,name\n+14155550001,Ada\nBob,Bob\n")
    await run("create", "July", "--text", "Hello {{name}}")

    first = await run("send", "1", "--csv", str(people))
    again = await run("send", "1", "--csv", str(people), "--json")
    nobody = await run("send", "1", "--csv", "-", stdin="phone,name\nBob,Bob\n")

    assert (
        first.stdout
        == "campaign 1 is running: 1 queued, 0 suppressed, 0 had it already, 1 rejected\n"
    )
    assert first.stderr == (
        "waemitter: Bob: recipient: is neither a phone number like +14155550123 nor a user id like US.1349…\n"
    )
    assert '"duplicates": 1' in again.stdout
    assert (first.exit_code, again.exit_code, nobody.exit_code) == (0, 0, 1)


async def test_status_tells_what_was_delivered_and_what_it_cost(run: Run, dsn: str):
    await run(
        "create", "May", "--csv", "-", "--text", "Hello", stdin="+14155550001\n+4915112345678\n"
    )
    await run("send", "1")
    card = "country,category,price,currency\nUS,marketing,0.025,USD\nDE,marketing,0.12,USD\n"
    rates = await run("rates", "-", stdin=card)
    async with outbox_at(dsn) as outbox:
        attempts = (await outbox.claim()).attempts
        await outbox.settle_all(attempts)
        await outbox.apply(
            *(status("delivered", each, category="marketing", billable=True) for each in attempts)
        )

    told = await run("status", "1")

    assert rates.stdout == "2 rates\n"
    assert "delivered\t2\n" in told.stdout
    assert f"US\tmarketing\tTrue\t1\t{Decimal('0.025')}\tUSD\n" in told.stdout
    assert "about 0.145 USD, by the imported rates\n" in told.stdout


async def test_bad_input_is_one_clear_line(run: Run, tmp_path: Path):
    people = tmp_path / "people.csv"
    people.write_text("name\nAda\n")
    latin = tmp_path / "latin.csv"
    latin.write_bytes("phone,name\n+14155550001,J\xf6rg\n".encode("latin-1"))
    good = tmp_path / "good.csv"
    good.write_text("phone,name\n+14155550001,Ada\n")
    hello = ("--text", "Hello {{name}}")
    for arguments, words, code in [
        (("create", "A", "--csv", str(people), *hello), "name one of name `recipient`", 2),
        (("create", "A", "--csv", str(latin), *hello), "UTF-8", 2),
        (("create", "A", "--csv", str(tmp_path / "none.csv"), *hello), "No such file", 2),
        (("create", "A", "--csv", str(good)), "say what to send", 2),
        (("create", "A", "--at", "tomorrow"), "--at takes a time", 2),
        (("create", "A", "--at", "2026-12-01T09:00"), "needs its zone", 2),
        (("create", "A", "--quiet-hours", "night"), "21:00-08:00", 2),
        (("create", "A", "--channel", "other"), "there is no channel 'other'", 1),
        (("create", "A", "--text", ""), "payload.text.body", 2),
        (("create", "A", "--text", "B", "--template", "c"), "one message", 2),
        (("status", "987654"), "there is no campaign 987654", 1),
        (("export", "987654"), "there is no campaign 987654", 1),
        (("pause", "987654"), "there is no campaign 987654", 1),
        (("rates", str(people)), "country is missing", 2),
    ]:
        ended = await run(*arguments)
        assert (ended.exit_code, ended.stderr.count("\n")) == (code, 1), (arguments, ended.stderr)
        assert words in ended.stderr


async def test_a_list_whose_columns_do_not_fit_makes_no_message(run: Run, connection):
    ended = await run(
        "create",
        "A",
        "--csv",
        "-",
        "--text",
        "Hello {{nmae}}",
        stdin="phone,name\n+14155550001,Ada\n",
    )

    assert ended.exit_code == 2
    assert "{{nmae}} is no parameter of the recipients; they have: name" in ended.stderr
    assert await connection.fetchval("select count(*) from waemitter.outbox_messages") == 0
    assert await connection.fetchval("select count(*) from waemitter.campaigns") == 0
