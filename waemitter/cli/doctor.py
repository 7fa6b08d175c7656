"""`waemitter doctor`: everything that a newcomer gets wrong, and what to do about it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import asdict
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.text import Text

from waemitter.cli.context import AsJson, Config, explained, loaded, print_json
from waemitter.ops.doctor import Finding, Verdict, examine
from waemitter.settings import Loaded

MARKS: Final[Mapping[Verdict, tuple[str, str]]] = {
    Verdict.OK: ("ok      ", "green"),
    Verdict.WARNING: ("warning ", "yellow"),
    Verdict.PROBLEM: ("PROBLEM ", "red bold"),
    Verdict.SKIPPED: ("skipped ", "dim"),
}


def doctor(
    *,
    url: Annotated[
        str | None,
        typer.Option(
            help="The address that Meta was given: try the webhook from there.",
            show_default="the daemon's own",
        ),
    ] = None,
    as_json: AsJson = False,
    config: Config = None,
) -> None:
    """Look at settings, database, Meta and the webhook, and say what to do about each thing that is wrong.

    Nothing is changed and nothing is sent; a running daemon journals one empty webhook. Exits with 0,
    1 when there is a problem, 2 when the settings cannot be read.
    """
    with explained():
        findings = asyncio.run(_findings(loaded(config), url, told=not as_json))
    if as_json:
        print_json([asdict(finding) for finding in findings])
    if any(finding.verdict is Verdict.PROBLEM for finding in findings):
        raise typer.Exit(1)


async def _findings(found: Loaded, url: str | None, *, told: bool) -> list[Finding]:
    console = Console(soft_wrap=True, highlight=False)
    findings = []
    async for finding in examine(found, url=url):
        findings.append(finding)
        if told:
            _tell(console, finding)
    return findings


def _tell(console: Console, finding: Finding) -> None:
    mark, style = MARKS[finding.verdict]
    line = Text.assemble((mark, style), f"{finding.check:10} {finding.said}")
    if finding.remedy:
        line.append(f"\n{'':19}{finding.remedy}", style="bold")
    console.print(line)
