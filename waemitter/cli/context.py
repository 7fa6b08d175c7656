"""What the commands share: settings, a store for one command, errors as one line, tables and JSON."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from waemitter.db import schema
from waemitter.db.pool import Pool, open_pool
from waemitter.errors import UsageError, WaemitterError
from waemitter.outbox.store import OutboxStore
from waemitter.settings import Loaded, load

T = TypeVar("T")

Config = Annotated[
    Path | None,
    typer.Option("--config", help="The TOML file to read.", show_default="./waemitter.toml"),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]

NO_DATABASE: Final = (
    "DATABASE_URL is not set: point it at your Postgres, as in "
    "postgresql://user:password@localhost:5432/app"
)


@contextmanager
def explained() -> Iterator[None]:
    """An error of ours becomes its line on stderr and its exit code."""
    try:
        yield
    except WaemitterError as error:
        typer.echo(f"waemitter: {error}", err=True)
        raise typer.Exit(error.exit_code) from None


def loaded(config: Path | None, overrides: Mapping[str, Any] | None = None) -> Loaded:
    return load(environ=os.environ, config=config, overrides=overrides or {})


def database_url(found: Loaded) -> str | None:
    """None leaves it to libpq's variables. Raises UsageError when nothing says where it is."""
    database = found.settings.database
    if not database.configured:
        raise UsageError(NO_DATABASE)
    return database.url.get_secret_value() if database.url is not None else None


def with_pool(config: Path | None, work: Callable[[Pool], Awaitable[T]]) -> T:
    """Run `work` on connections to the configured database, whose schema must be this release's."""

    async def opened() -> T:
        async with open_pool(database_url(loaded(config)), size=2) as pool:
            async with pool.acquire() as connection:
                await schema.require(connection)
            return await work(pool)

    with explained():
        return asyncio.run(opened())


def with_store(config: Path | None, work: Callable[[OutboxStore], Awaitable[T]]) -> T:
    """Run `work` on the outbox of the configured database."""
    return with_pool(config, lambda pool: work(OutboxStore(pool)))


def print_json(value: Any) -> None:
    typer.echo(json.dumps(value, default=_plain, ensure_ascii=False, indent=2))


def print_rows(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
    """A table on a terminal, tab-separated lines elsewhere."""
    console = Console()
    if not console.is_terminal:
        for row in rows:
            typer.echo("\t".join(_cell(row[column]) for column in columns))
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column.replace("_", " "))
    for row in rows:
        table.add_row(*(Text(_cell(row[column])) for column in columns))
    console.print(table)


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, datetime):
        return value.astimezone().isoformat(sep=" ", timespec="seconds")
    return str(value)


def _plain(value: Any) -> Any:
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    return str(value)
