"""`waemitter check`: the settings in effect, where each came from, and what is wrong with them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from waemitter.settings import InvalidSettings, Loaded, load, missing_to_run
from waemitter.settings.report import Row, rows


def check(
    *,
    config: Annotated[
        Path | None,
        typer.Option("--config", help="The TOML file to read.", show_default="./waemitter.toml"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show the effective settings and where each came from; secrets stay hidden.

    Exits with 2 when a setting is wrong or unknown, with a line for each on stderr.
    """
    try:
        loaded = load(environ=os.environ, config=config)
    except InvalidSettings as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(error.exit_code) from None
    if as_json:
        typer.echo(json.dumps(_as_json(loaded), indent=2, ensure_ascii=False))
        return
    console = Console()
    if console.is_terminal:
        console.print(_as_table(loaded))
    else:
        for line in _as_lines(loaded):
            typer.echo(line)
    for line in _remarks(loaded):
        typer.echo(line)


def _as_json(loaded: Loaded) -> dict[str, Any]:
    return {
        "file": None if loaded.file is None else str(loaded.file),
        "settings": {
            row.name: {"value": row.value, "origin": row.origin, "effective": not row.later}
            for row in rows(loaded)
        },
        "unused": dict(loaded.unused),
        "missing": list(missing_to_run(loaded.settings)),
    }


def _as_table(loaded: Loaded) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("setting", "value", "from"):
        table.add_column(heading, overflow="fold")
    for row in rows(loaded):
        style = "dim" if row.origin == "default" or row.later else None
        # Text, since in a plain string an address such as [::1] would be read as markup.
        table.add_row(Text(row.name), Text(row.text), Text(_origin(row)), style=style)
    return table


def _as_lines(loaded: Loaded) -> Iterator[str]:
    every = list(rows(loaded))
    name_width = max(len(row.name) for row in every)
    text_width = min(max(len(row.text) for row in every), 40)
    for row in every:
        yield f"{row.name:{name_width}}  {row.text:{text_width}}  {_origin(row)}"


def _origin(row: Row) -> str:
    return f"{row.origin} (no effect yet)" if row.later else row.origin


def _remarks(loaded: Loaded) -> Iterator[str]:
    for name, why in loaded.unused.items():
        yield f"unused: {name}: {why}"
    for line in missing_to_run(loaded.settings):
        yield f"needed by run: {line}"
