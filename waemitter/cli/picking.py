"""What commands share that work on some rows, or on all that match: the options, and the walk over pages."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import Annotated, Any, Final, NamedTuple

import typer

from waemitter.cli.context import print_json
from waemitter.settings.durations import parse_duration

PAGE: Final = 1000

OfChannel = Annotated[str | None, typer.Option("--channel", help="Only those of this channel.")]
OfCode = Annotated[int | None, typer.Option("--error-code", help="Only those Meta refused so.")]
OlderThan = Annotated[str | None, typer.Option("--older-than", help="Only older ones, as in 2h.")]
AllMatching = Annotated[bool, typer.Option(help="All that the filters match, in place of ids.")]
Limit = Annotated[int, typer.Option(min=1, max=10_000, help="Most rows.")]


class Rows(NamedTuple):
    """`page(limit, before)`: rows with ids below `before`, the highest first; `change(ids)`: those that it changed."""

    page: Callable[[int, int | None], Awaitable[Sequence[dict[str, Any]]]]
    change: Callable[[Sequence[int]], Awaitable[Sequence[int]]]


def age(text: str | None) -> timedelta | None:
    """An age as it was typed. Raises BadParameter."""
    try:
        return timedelta(seconds=parse_duration(text)) if text else None
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--older-than") from None


def need_ids(ids: Sequence[int], *, all_matching: bool) -> None:
    """Raises BadParameter unless there are either ids or filters."""
    if bool(ids) == all_matching:
        raise typer.BadParameter("give ids, or filters with --all-matching")


async def change(rows: Rows, ids: Sequence[int], *, all_matching: bool) -> tuple[int, list[int]]:
    """How many were asked for, and the ids of those that were changed."""
    if not all_matching:
        return len(ids), list(await rows.change(ids))
    asked, changed, before = 0, list[int](), None
    while page := await rows.page(PAGE, before):
        asked += len(page)
        before = page[-1]["id"]
        changed += await rows.change([row["id"] for row in page])
    return asked, changed


def tell_changed(
    ids: Sequence[int], asked: int, changed: Sequence[int], *, all_matching: bool, as_json: bool
) -> None:
    """Exit code 1 when a row that was named was left as it is."""
    if as_json:
        print_json({"asked": asked, "changed": changed})
    else:
        typer.echo(f"{len(changed)} of {asked}")
    if not all_matching and len(changed) < asked:
        kept = sorted(set(ids) - set(changed))
        typer.echo(f"waemitter: no effect on {', '.join(map(str, kept))}", err=True)
        raise typer.Exit(1)
