import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from waemitter.cli.main import app

DOCS = (Path(__file__).parents[2] / "docs/routes.md").read_text()
EXAMPLE = DOCS.split("```toml\n", 1)[1].split("```", 1)[0]


@pytest.fixture(autouse=True)
def the_example_of_the_docs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RIDES_SECRET", "s3cret")
    Path("waemitter.toml").write_text(EXAMPLE)


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["route", "test", *arguments])
    return result.exit_code, result.output


def told(*arguments: str) -> dict[str, str]:
    code, output = run(*arguments, "--json")
    assert code == 0, output
    found: dict[str, str] = json.loads(output)
    return found


def test_it_prints_what_the_docs_show():
    block = DOCS.split("$ waemitter route test Taxi\n", 1)[1].split("```", 1)[0]

    assert run("Taxi") == (0, block)


@pytest.mark.parametrize(
    ("arguments", "route"),
    [
        (("menu",), "menu"),
        (("menu", "--service", "rides"), "menu"),
        (("anything", "--service", "rides"), "rides"),
        (("my insurance",), "insurance"),
        (("insured", "--type", "image"), "insurance"),
        (("hello", "--referral"), "fallback"),
        ((), "fallback"),
    ],
)
def test_which_route_a_message_takes(arguments, route):
    assert told(*arguments)["route"] == route


def test_a_contact_always_gets_the_same_variant():
    variants = {told("offer", "--contact", f"+1415555012{n}")["variant"] for n in range(10)}

    assert variants == {"short", "long"}
    assert told("offer", "--contact", "+14155550120") == told("offer", "--contact", "14155550120")


def test_no_route_at_all_is_told_too():
    Path("waemitter.toml").write_text(EXAMPLE.split('[[routes]]\nname = "fallback"')[0])

    assert run("nothing of that") == (
        0,
        "-\t-\tNo route matches, and there is no fallback: nobody answers.\n",
    )


def test_without_routes_it_says_what_is_missing():
    Path("waemitter.toml").unlink()

    assert run("x") == (2, "waemitter: there are no routes: write [[routes]] into waemitter.toml\n")


def test_what_is_no_contact_is_refused():
    code, output = run("x", "--contact", "nobody")

    assert code == 1
    assert "neither a phone number" in output


def test_a_change_takes_only_a_route_that_asks_for_its_field():
    table = DOCS.split("### Calls", 1)[1].split("```toml\n", 1)[1].split("```", 1)[0]
    Path("waemitter.toml").write_text(EXAMPLE + table)

    assert told("--field", "calls", "--event", "missed") == {
        "route": "missed calls",
        "variant": "reply",
        "handler": "reply",
        "answers": "reply",
        "reason": "Meta told of calls, missed.",
    }
    assert told("--field", "calls", "--event", "connect", "--service", "rides")["route"] is None
    assert told("calls")["route"] == "fallback"
