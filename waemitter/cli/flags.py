"""`waemitter flags …`: switches that work at once."""

from __future__ import annotations

from typing import Annotated, Any, Final

import typer

from waemitter.cli.context import AsJson, Config, print_json, print_rows, with_pool
from waemitter.turns.flags.store import FlagStore

app: Final = typer.Typer(no_args_is_help=True, help="Switches that work at once.")

COLUMNS: Final = ("flag_name", "is_enabled", "rollout_percent", "description")

Name = Annotated[str, typer.Argument(metavar="NAME", help="The flag's name.")]


@app.command("list")
def list_flags(*, as_json: AsJson = False, config: Config = None) -> None:
    """All flags, and how they stand."""
    rows = with_pool(config, lambda pool: FlagStore(pool).list())
    if as_json:
        print_json(rows)
    else:
        print_rows(rows, COLUMNS)


@app.command()
def enable(
    name: Name,
    *,
    percent: Annotated[
        int | None,
        typer.Option(min=0, max=100, help="For that share of the contacts, always the same ones."),
    ] = None,
    as_json: AsJson = False,
    config: Config = None,
) -> None:
    """Turn a flag on."""
    row = with_pool(
        config, lambda pool: FlagStore(pool).turn(name, enabled=True, rollout_percent=percent)
    )
    _print(row, as_json=as_json)


@app.command()
def disable(name: Name, *, as_json: AsJson = False, config: Config = None) -> None:
    """Turn a flag off."""
    _print(
        with_pool(config, lambda pool: FlagStore(pool).turn(name, enabled=False)), as_json=as_json
    )


def _print(row: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(row)
    else:
        state = f"on for {row['rollout_percent']} %" if row["is_enabled"] else "off"
        typer.echo(f"{row['flag_name']} is {state}")
