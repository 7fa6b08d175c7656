from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from waemitter.cli.main import app

PHONE = "+14155550123"
LIST: dict[str, Any] = {
    "type": "list",
    "body": {"text": "x" * 4097},
    "action": {"button": "", "sections": [{"rows": [{"id": "1", "title": "One"}]}]},
}


def send(*arguments: str) -> tuple[int, list[str]]:
    result = CliRunner().invoke(app, ["send", *arguments])
    return result.exit_code, result.stderr.splitlines()


def test_a_payload_that_meta_would_refuse_is_not_enqueued_and_each_problem_has_a_line(
    tmp_path: Path,
) -> None:
    file = tmp_path / "list.json"
    file.write_text(json.dumps({"interactive": LIST}))
    code, lines = send(PHONE, "--json", str(file))
    assert code == 2
    assert [line.split(": ")[1] for line in lines] == [
        "payload.interactive.body.text",
        "payload.interactive.action.button",
    ]


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("0151 2345678", "--text", "hi"), "waemitter: recipient: "),
        ((PHONE, "--text", ""), "waemitter: payload.text.body: is empty"),
        ((PHONE, "--template", ""), "waemitter: payload.template.name: is empty"),
        ((PHONE,), "waemitter: say what to send"),
    ],
)
def test_what_cannot_be_sent_is_refused_before_any_database_is_asked(arguments, line):
    code, lines = send(*arguments)
    assert code == 2
    assert len(lines) == 1
    assert lines[0].startswith(line)
