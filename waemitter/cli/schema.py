"""`waemitter schema apply | print | status`: what the database holds and should hold."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

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
def show(
    *,
    since: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="The version in your database: print the migrations behind it first.",
            show_default="a new database",
        ),
    ] = None,
) -> None:
    """Print the SQL, for psql or for a migration tool of your own."""
    typer.echo(schema.script(schema.this_release(), since=since), nl=False)


@app.command("status")
def status(
    *,
    database_url: DatabaseUrl = None,
    config: Config = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Compare the database's schema with this release's; exits with 4 when a daemon of this release cannot run on it."""
    with _told():
        facts, problem = asyncio.run(_status(_dsn(database_url, config)))
        if as_json:
            typer.echo(json.dumps(facts))
        else:
            for name, fact in facts.items():
                typer.echo(f"{name:9} {_words(fact)}")
        if problem is not None:
            raise problem


async def _apply(dsn: str | None) -> list[str]:
    async with open_connection(dsn) as connection:
        return await schema.apply(connection)


async def _status(dsn: str | None) -> tuple[dict[str, Any], WaemitterError | None]:
    async with open_connection(dsn) as connection:
        state = await schema.look(connection)
        problem = None
        try:
            await schema.require(connection)
        except WaemitterError as error:
            problem = error
        release = schema.this_release()
        due = await schema.pending(connection, release) if state is not None else []
        return {
            "installed": None if state is None else state.version,
            "supported": schema.VERSION,
            "pending": [f"{migration.version:04}_{migration.name}" for migration in due],
            "daemons": {str(k): n for k, n in (await schema.daemons(connection)).items()},
            "ok": problem is None,
        }, problem


def _words(fact: Any) -> str:
    if isinstance(fact, bool):
        return "yes" if fact else "no"
    if isinstance(fact, Mapping):
        return ", ".join(f"{n} made for {version}" for version, n in fact.items()) or "none"
    if isinstance(fact, list):
        return ", ".join(fact) or "none"
    return "none" if fact is None else str(fact)


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
