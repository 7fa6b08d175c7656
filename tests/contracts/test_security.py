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


COMPARED = {"signature", "digest", "token", "secret", "password", "genuine", "mac"}
"""Words in the names of what must be compared in constant time."""
NO_SECRET = re.compile(r"''|None|\d+|_?[A-Z_]+|len\(.*|.* is None").fullmatch
"""An empty text, a number, a constant of the house, a length, or whether there is one."""
HARMLESS = {
    "waemitter/inbox/media/fetcher.py",  # the digest of a file, which its sender knows
    "request.cookies.get(TOKEN) != token",  # what a browser brought, with what it is given back
}


@pytest.mark.parametrize("module", MODULES, ids=name)
def test_secrets_are_compared_in_constant_time(module: Path) -> None:
    if "simulator" in module.parts:  # its tokens are anybody's
        return
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Compare) and isinstance(node.ops[0], ast.Eq | ast.NotEq):
            sides = [ast.unparse(side).strip("()") for side in (node.left, *node.comparators)]
            words = {word for side in sides for word in re.findall(r"[a-z]+", side.lower())}
            if not any(map(NO_SECRET, sides)) and not {name(module), ast.unparse(node)} & HARMLESS:
                assert not words & COMPARED, ast.unparse(node)


@pytest.mark.parametrize(
    "module", ["whatsapp/signature.py", "web/auth.py", "web/dashboard/session.py"]
)
def test_who_checks_a_secret_compares_digests(module: str) -> None:
    assert "hmac.compare_digest(" in (ROOT / "waemitter" / module).read_text()


OUT = {"get", "post", "put", "patch", "delete", "head", "request"}
ASKS_ITSELF = {"waemitter/daemon/knocking.py"}
"""Calls to the daemon's own door, from within."""
LINKS = {"waemitter/outbox/carriers/chatwoot/files.py"}
"""Links that whoever may enqueue has named, for Chatwoot: they carry no token of ours."""
DAEMONS = [
    each
    for each in MODULES
    if each.parts[-3:-1] != ("waemitter", "cli") and "ops" not in each.parts
]


def sessions(call: ast.Call) -> bool:
    """Whether a call is a request of an aiohttp session."""
    return (
        isinstance(call.func, ast.Attribute)
        and call.func.attr in OUT
        and ast.unparse(call.func.value).endswith("session")
    )


@pytest.mark.parametrize("module", DAEMONS, ids=name)
def test_no_call_follows_a_redirect(module: Path) -> None:
    if "simulator" in module.parts or name(module) in ASKS_ITSELF | LINKS:
        return
    for call in filter(sessions, calls(module)):
        told = {each.arg: ast.unparse(each.value) for each in call.keywords}
        assert told.get("allow_redirects") == "False", ast.unparse(call)


def test_there_are_calls_that_could_follow_one() -> None:
    found = {name(module) for module in DAEMONS if any(map(sessions, calls(module)))}
    assert {
        "waemitter/whatsapp/client.py",
        "waemitter/turns/handlers/http.py",
        "waemitter/jobs/event_stream/targets/webhook.py",
    } <= found


def test_every_session_of_the_daemon_is_guarded() -> None:
    for module in DAEMONS:
        for call in calls(module):
            if ast.unparse(call.func).endswith("TCPConnector") and "simulator" not in module.parts:
                assert "socket_factory" in {each.arg for each in call.keywords}, name(module)
            if ast.unparse(call.func).endswith("ClientSession") and "simulator" not in module.parts:
                assert "connector" in {each.arg for each in call.keywords}, name(module)


def test_every_test_that_the_page_names_is_there() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)`", (ROOT / "docs/security.md").read_text())
    assert named
    assert [each for each in named if not (ROOT / each).exists()] == []
