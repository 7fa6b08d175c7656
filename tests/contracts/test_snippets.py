"""What the pages show can be typed: TOML loads, JSON parses, options exist; and the references leave nothing out."""

from __future__ import annotations

import ast
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from typer.main import get_command

from waemitter.cli.main import app
from waemitter.settings import load

ROOT: Final = Path(__file__).parents[2]
PAGES: Final = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
COMMAND: Final = re.compile(r"(?:^\s*(?:\$ )?|`)waemitter ([^`\n]*)", re.MULTILINE)
THE_REST: Final = {
    "[[agents.assistant.tools]]": '[agents.assistant]\nmodel = "m"\nsystem_prompt = "p"\n',
}
"""What a piece that a page shows stands in, by how it begins."""

ACCOUNT: Final = {
    "CHATWOOT_BASE_URL": "https://chat.example.com",
    "CHATWOOT_ACCOUNT_ID": "1",
    "CHATWOOT_API_TOKEN": "secret",
}


def snippets(language: str) -> list[Any]:
    return [
        pytest.param(block, id=f"{page.name}-{number}")
        for page in PAGES
        for number, block in enumerate(
            re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
        )
    ]


@pytest.mark.parametrize("block", snippets("json"))
def test_json_is_json(block: str) -> None:
    try:
        json.loads(block)
    except json.JSONDecodeError:
        for line in block.splitlines():  # a document in each
            json.loads(line)


@pytest.mark.parametrize("block", snippets("toml"))
def test_toml_is_a_file_that_a_daemon_takes(block: str, tmp_path: Path) -> None:
    for name in re.findall(r'_file = "(?:/run/secrets/)?(\w[\w.]*)"', block):
        (tmp_path / name).write_text("secret")
    text = block.replace("/run/secrets/", f"{tmp_path}/")
    before = [rest for start, rest in THE_REST.items() if text.startswith(start)]
    file = tmp_path / "waemitter.toml"
    file.write_text("".join(before) + text)
    named = dict.fromkeys(re.findall(r'_env = "(\w+)"', block), "secret")
    named |= ACCOUNT if "chatwoot" in block else {}
    assert load(environ=named, config=file).file == file


def lines() -> Iterator[tuple[str, str]]:
    for page in PAGES:
        for line in COMMAND.findall(page.read_text()):
            yield page.name, re.split(r" #|   |\s[|>&;]", line)[0]


def test_an_option_that_a_page_shows_exists() -> None:
    shown, unknown = 0, []
    for page, line in lines():
        command: Any = get_command(app)
        words = shlex.split(line)
        while hasattr(command, "get_command") and words and command.get_command(None, words[0]):
            command = command.get_command(None, words.pop(0))
        known = {option for each in command.params for option in each.opts + each.secondary_opts}
        options = [word.partition("=")[0] for word in words if word.startswith("--")]
        shown += len(options)
        unknown += [(page, line, option) for option in options if option not in {*known, "--help"}]
    assert unknown == []
    assert shown > 40  # it has found them


def test_every_route_of_the_api_is_in_the_reference() -> None:
    page = (ROOT / "docs/http.md").read_text()
    paths = {
        str(keyword.value.value)
        for module in (ROOT / "waemitter/web/api").glob("*.py")
        for node in ast.walk(ast.parse(module.read_text()))
        if isinstance(node, ast.Call)
        for keyword in node.keywords
        if keyword.arg == "path" and isinstance(keyword.value, ast.Constant)
    }
    assert len(paths) > 15
    told = {path for path in paths if path in page or f"`/{path.rpartition('/')[2]}`" in page}
    assert paths - told == set()


def test_every_table_and_view_is_in_the_documentation() -> None:
    made = re.findall(
        r"^create (?:table if not exists|or replace view) waemitter\.(\w+)",
        (ROOT / "schema.sql").read_text(),
        re.MULTILINE,
    )
    pages = "\n".join(page.read_text() for page in PAGES)
    assert len(made) > 40
    assert [name for name in made if not re.search(rf"\b{name}\b", pages)] == []
