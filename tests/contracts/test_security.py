"""What docs/security.md says of the whole code base, so that no later line makes it untrue."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULES = sorted((ROOT / "waemitter").rglob("*.py"))
DANGEROUS = {"eval", "exec", "compile", "__import__"}
UNSAFE = {"pickle", "marshal", "shelve", "yaml"}
SPEAKS_SQL = {"execute", "executemany", "fetch", "fetchrow", "fetchval", "cursor", "prepare"}


def name(module: Path) -> str:
    return str(module.relative_to(ROOT))


def calls(module: Path) -> Iterator[ast.Call]:
    return (node for node in ast.walk(ast.parse(module.read_text())) if isinstance(node, ast.Call))


@pytest.mark.parametrize("module", MODULES, ids=name)
def test_no_data_becomes_code(module: Path) -> None:
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = {alias.name for alias in node.names} | {getattr(node, "module", None)}
            assert not names & UNSAFE
        if isinstance(node, ast.Call):
            if isinstance(node.func, ast.Name):
                assert node.func.id not in DANGEROUS
            assert not any(
                each.arg == "shell"
                and not (isinstance(each.value, ast.Constant) and not each.value.value)
                for each in node.keywords
            )


@pytest.mark.parametrize("module", MODULES, ids=name)
def test_no_statement_is_put_together_where_it_is_run(module: Path) -> None:
    for call in calls(module):
        if isinstance(call.func, ast.Attribute) and call.func.attr in SPEAKS_SQL and call.args:
            statement = call.args[0]
            assert not isinstance(statement, ast.JoinedStr | ast.BinOp), ast.unparse(call)
            assert not (
                isinstance(statement, ast.Call)
                and isinstance(statement.func, ast.Attribute)
                and statement.func.attr in {"format", "replace", "join"}
            ), ast.unparse(call)


@pytest.mark.parametrize("module", ["whatsapp/signature.py", "web/auth.py"], ids=str)
def test_secrets_are_compared_in_constant_time(module: str) -> None:
    text = (ROOT / "waemitter" / module).read_text()
    assert "compare_digest" in text
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Compare) and isinstance(node.ops[0], ast.Eq | ast.NotEq):
            words = re.findall(r"[a-z_]+", ast.unparse(node.left).lower())
            compared_to_nothing = ast.unparse(node.comparators[0]) in {"''", "None"}
            assert compared_to_nothing or not {"signature", "digest", "token"} & set(words)


def test_calls_to_meta_follow_no_redirect() -> None:
    text = (ROOT / "waemitter/whatsapp/client.py").read_text()
    calls = re.findall(r"self\._session\.\w+\(", text)
    assert calls
    assert text.count("allow_redirects=False") == len(calls)


def test_every_test_that_the_page_names_is_there() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)`", (ROOT / "docs/security.md").read_text())
    assert named
    assert [each for each in named if not (ROOT / each).exists()] == []
