"""`waemitter optout …`: who must not be written to."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final, Literal, TypeVar

import typer

from waemitter.cli.context import (
    AsJson,
    Config,
    database_url,
    explained,
    loaded,
    print_json,
    print_rows,
)
from waemitter.db import schema
from waemitter.db.pool import open_pool
from waemitter.errors import PayloadError
from waemitter.outbox.permissions.store import PermissionStore
from waemitter.whatsapp.requests import normalise_recipient

T = TypeVar("T")

app: Final = typer.Typer(no_args_is_help=True, help="The people who opted out.")

COLUMNS: Final = ("address", "channel", "scope", "reason", "source", "created_at")
SOURCE: Final = "waemitter optout"


class Scope(StrEnum):
    """What a person wants no more of."""

    ALL = "all"
    MARKETING = "marketing"


Numbers = Annotated[list[str], typer.Argument(help="Phone numbers, or Meta's user ids.")]
OfChannel = Annotated[str | None, typer.Option("--channel", help="Of this channel alone.")]


@app.command("list")
def list_optouts(
    number: Annotated[str | None, typer.Argument(help="Only this person.")] = None,
    *,
    channel: OfChannel = None,
    reason: Annotated[str | None, typer.Option(help="As in stop_word or marketing_stop.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="Most rows.")] = 50,
    as_json: AsJson = False,
    config: Config = None,
) -> None:
    """The newest first; without a channel, an entry concerns all of them."""
    recipient = _checked([number])[0] if number is not None else None
    rows = _with_store(
        config,
        lambda store: store.list(recipient=recipient, channel=channel, reason=reason, limit=limit),
    )
    if as_json:
        print_json(rows)
    else:
        print_rows(rows, COLUMNS)


@app.command()
def add(
    numbers: Numbers,
    *,
    channel: OfChannel = None,
    scope: Annotated[Scope, typer.Option(help="What they want no more of.")] = Scope.ALL,
    reason: Annotated[str, typer.Option(help="Why, in a word.")] = "operator",
    as_json: AsJson = False,
    config: Config = None,
) -> None:
    """Send these people nothing more; messages that wait for them end as `suppressed`."""
    recipients = _checked(numbers)

    async def work(store: PermissionStore) -> int:
        added = [
            await store.add(
                recipient, scope=scope.value, channel=channel, reason=reason, source=SOURCE
            )
            for recipient in recipients
        ]
        return sum(added)

    try:
        added = _with_store(config, work)
    except KeyError:
        raise typer.BadParameter(f"there is no channel {channel}", param_hint="--channel") from None
    _print_changed("added", added, len(recipients), as_json=as_json)


@app.command()
def remove(
    numbers: Numbers,
    *,
    channel: OfChannel = None,
    scope: Annotated[Scope | None, typer.Option(help="Only what is of this scope.")] = None,
    as_json: AsJson = False,
    config: Config = None,
) -> None:
    """Take people off the list; what was suppressed stays so, until `waemitter outbox retry`."""
    recipients = _checked(numbers)

    async def work(store: PermissionStore) -> int:
        of: Literal["all", "marketing"] | None = scope.value if scope is not None else None
        removed = [
            await store.remove(recipient, scope=of, channel=channel) for recipient in recipients
        ]
        return sum(map(bool, removed))

    removed = _with_store(config, work)
    _print_changed("removed", removed, len(recipients), as_json=as_json)
    if removed < len(recipients):
        raise typer.Exit(1)


def _checked(numbers: Sequence[str]) -> list[str]:
    """The recipients, each in its one spelling; all of them are read before any is changed."""
    try:
        return [normalise_recipient(number).value for number in numbers]
    except PayloadError as error:
        raise typer.BadParameter(error.reason, param_hint="NUMBERS") from None


def _print_changed(word: str, changed: int, asked: int, *, as_json: bool) -> None:
    if as_json:
        print_json({"asked": asked, word: changed})
    else:
        typer.echo(f"{changed} of {asked} {word}")


def _with_store(config: Path | None, work: Callable[[PermissionStore], Awaitable[T]]) -> T:
    async def opened() -> T:
        async with open_pool(database_url(loaded(config)), size=1) as pool:
            async with pool.acquire() as connection:
                await schema.require(connection)
            return await work(PermissionStore(pool))

    with explained():
        return asyncio.run(opened())
