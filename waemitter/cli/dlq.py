"""`waemitter dlq …`: what could not be sent, or not be handled; do it again, or put it aside."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final

import typer

from waemitter.cli.context import AsJson, Config, print_json, print_rows, with_pool
from waemitter.cli.picking import (
    AllMatching,
    Limit,
    OfChannel,
    OfCode,
    OlderThan,
    Rows,
    age,
    change,
    need_ids,
    tell_changed,
)
from waemitter.outbox.letters.store import Chosen, LetterStore

app: Final = typer.Typer(no_args_is_help=True, help="The dead letters, in and out.")

COLUMNS: Final = (
    *("id", "direction", "resolution_status", "stage", "channel", "message_id"),
    *("error_class", "error_code", "attempts", "created_at", "error"),
)


class Direction(StrEnum):
    INBOUND = "inbound"
    OUTBOUND = "outbound"


class State(StrEnum):
    PENDING = "pending"
    RESOLVED = "resolved"
    ABANDONED = "abandoned"
    DISCARDED = "discarded"


OfDirection = Annotated[Direction | None, typer.Option("--direction", help="Only in, or out.")]
OfState = Annotated[State | None, typer.Option("--status", help="Only those of this status.")]
OfStage = Annotated[str | None, typer.Option("--stage", help="Only those that failed there.")]
Ids = Annotated[list[int] | None, typer.Argument(help="The letters' ids.")]


@app.command("list")
def list_letters(  # noqa: PLR0913 a filter each
    *,
    direction: OfDirection = None,
    status: OfState = None,
    channel: OfChannel = None,
    stage: OfStage = None,
    error_code: OfCode = None,
    older_than: OlderThan = None,
    limit: Limit = 50,
    as_json: AsJson = False,
    config: Config = None,
) -> None:
    """The newest letters first."""
    chosen = Chosen(direction, status, channel, stage, error_code, age(older_than))
    rows = with_pool(config, lambda pool: LetterStore(pool).list(chosen, limit=limit))
    if as_json:
        print_json(rows)
    else:
        print_rows(rows, COLUMNS)


@app.command()
def show(
    letter_id: Annotated[int, typer.Argument(metavar="ID")],
    *,
    as_json: AsJson = False,
    config: Config = None,
) -> None:
    """One letter, whole."""
    row = with_pool(config, lambda pool: LetterStore(pool).get(letter_id))
    if row is None:
        typer.echo(f"waemitter: there is no dead letter {letter_id}", err=True)
        raise typer.Exit(1)
    if as_json:
        print_json(row)
    else:
        told = [{"column": name, "value": row[name]} for name in row if row[name] is not None]
        print_rows(told, ("column", "value"))


@app.command()
def retry(  # noqa: PLR0913 a filter each
    ids: Ids = None,
    *,
    all_matching: AllMatching = False,
    direction: OfDirection = None,
    status: OfState = None,
    channel: OfChannel = None,
    stage: OfStage = None,
    error_code: OfCode = None,
    older_than: OlderThan = None,
    as_json: AsJson = False,
    config: Config = None,
) -> None:
    """Send once more, or handle once more, with a fresh budget of tries."""
    chosen = Chosen(direction, status, channel, stage, error_code, age(older_than))
    _change(ids or [], chosen, LetterStore.retry, config, all_matching, as_json)


@app.command()
def discard(  # noqa: PLR0913 a filter each
    ids: Ids = None,
    *,
    all_matching: AllMatching = False,
    direction: OfDirection = None,
    status: OfState = None,
    channel: OfChannel = None,
    stage: OfStage = None,
    error_code: OfCode = None,
    older_than: OlderThan = None,
    as_json: AsJson = False,
    config: Config = None,
) -> None:
    """Put letters aside for good; retention deletes them later."""
    chosen = Chosen(direction, status, channel, stage, error_code, age(older_than))
    _change(ids or [], chosen, LetterStore.discard, config, all_matching, as_json)


def _change(
    ids: Sequence[int],
    chosen: Chosen,
    act: Callable[[LetterStore, Sequence[int]], Awaitable[Sequence[int]]],
    config: Path | None,
    all_matching: bool,  # noqa: FBT001 handed through
    as_json: bool,  # noqa: FBT001 handed through
) -> None:
    need_ids(ids, all_matching=all_matching)

    async def work(store: LetterStore) -> tuple[int, list[int]]:
        rows = Rows(
            page=lambda limit, before: store.list(chosen, limit=limit, before=before),
            change=lambda some: act(store, some),
        )
        return await change(rows, ids, all_matching=all_matching)

    asked, changed = with_pool(config, lambda pool: work(LetterStore(pool)))
    tell_changed(ids, asked, changed, all_matching=all_matching, as_json=as_json)
