"""`waemitter schema apply | print | status`: what the database holds and should hold."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from waemitter.db import schema
from waemitter.db.pool import open_connection
from waemitter.errors import UsageError, WaemitterError
from waemitter.settings import load

app = typer.Typer(no_args_is_help=True, help="The database's schema.")

DatabaseUrl = Annotated[
    str | None,
    typer.Option("--database-url", help="The Postgres to use.", show_default="DATABASE_URL"),
]
Config = Annotated[
    Path | None,
    typer.Option("--config", help="The TOML file to read.", show_default="./waemitter.toml"),
]


@app.command("apply")
def apply(*, database_url: DatabaseUrl = None, config: Config = None) -> None:
    """Create the schema, or bring it up to date; a second time changes nothing."""
    with _told():
        for remark in asyncio.run(_apply(_dsn(database_url, config))):
            typer.echo(remark, err=True)
    typer.echo(f"The schema is in place (version {schema.VERSION}).")


@app.command("print")
def show() -> None:
    """Print the SQL, for psql or for a migration tool of your own."""
    typer.echo(schema.text(), nl=False)


@app.command("status")
def status(
    *,
    database_url: DatabaseUrl = None,
    config: Config = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Compare the database's schema with this release's; exits with 4 when they do not match."""
    with _told():
        installed, problem = asyncio.run(_status(_dsn(database_url, config)))
        if as_json:
            facts = {
                "installed": installed,
                "supported": schema.VERSION,
                "ok": problem is None,
            }
            typer.echo(json.dumps(facts))
        else:
            typer.echo(f"installed {'none' if installed is None else installed}")
            typer.echo(f"supported {schema.VERSION}")
        if problem is not None:
            raise problem


async def _apply(dsn: str | None) -> list[str]:
    async with open_connection(dsn) as connection:
        return await schema.apply(connection)


async def _status(dsn: str | None) -> tuple[int | None, WaemitterError | None]:
    async with open_connection(dsn) as connection:
        installed = await schema.installed_version(connection)
        try:
            await schema.require(connection)
        except WaemitterError as problem:
            return installed, problem
        return installed, None


def _dsn(database_url: str | None, config: Path | None) -> str | None:
    """Return where the database is; None when libpq's variables say so."""
    loaded = load(environ=os.environ, config=config, overrides={"database.url": database_url})
    database = loaded.settings.database
    if not database.configured:
        raise UsageError("no database is named: set DATABASE_URL, or pass --database-url")
    return None if database.url is None else database.url.get_secret_value()


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except WaemitterError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(error.exit_code) from None
