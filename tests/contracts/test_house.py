"""The house rules that a linter does not know."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULES = sorted((ROOT / "waemitter").rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
STATEMENT = re.compile(
    r"\s*(select|insert into|update \w|delete from|with \w+ (as )?\(|create |alter |drop |notify |listen )"
    r"|\s*(SELECT|INSERT INTO|UPDATE|DELETE FROM|WITH \w+ AS|CREATE|ALTER|DROP)\b"
)


def name(module: Path) -> str:
    return str(module.relative_to(ROOT))


def may_hold_sql(module: Path) -> bool:
    return (
        module.name == "store.py"
        or module.parent.name == "db"
        or name(module) in {"waemitter/runtime/doorbell.py", "waemitter/runtime/gears.py"}
    )


@pytest.mark.parametrize("module", [*MODULES, *TESTS], ids=name)
def test_a_file_is_a_page_to_read_at_once(module: Path) -> None:
    assert module.read_text().count("\n") <= 400


@pytest.mark.parametrize("module", [*MODULES, *TESTS], ids=name)
def test_a_function_fits_on_a_screen(module: Path) -> None:
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            assert node.end_lineno - node.lineno <= 50, node.name


@pytest.mark.parametrize("module", [m for m in MODULES if not may_hold_sql(m)], ids=name)
def test_sql_is_at_home_in_the_schema_and_in_stores(module: Path) -> None:
    tree = ast.parse(module.read_text())
    prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose:
            assert not STATEMENT.match(node.value), node.value


def test_the_wheel_s_schema_is_the_repository_s() -> None:
    assert (ROOT / "waemitter/schema.sql").resolve() == ROOT / "schema.sql"


def test_a_daemon_starts_without_what_only_other_commands_use() -> None:
    """Each module is time before the first message."""
    code = (
        "import sys; from waemitter.cli.main import app, Commands\n"
        "import typer.main; typer.main.get_command(app).get_command(None, 'run')\n"
        "others = ('waemitter.ops', 'waemitter.simulator', 'waemitter.turns.agents', 'openai', 'markdown_it')\n"
        "assert 'waemitter.daemon.main' in sys.modules\n"
        "print([name for name in sys.modules if name.startswith(others)])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
