"""What `waemitter campaign` shows: progress on a terminal, tables, JSON."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any, Final, Self

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from waemitter.cli.context import print_json, print_rows
from waemitter.outbox.campaigns.costs import CostLine
from waemitter.outbox.campaigns.enqueue import Report
from waemitter.outbox.campaigns.store import Campaign, Failure

MOST_REJECTIONS: Final = 10  # shown; --json has all
FUNNEL: Final = ("sent", "delivered", "read", "failed")
BESIDE: Final = ("suppressed", "cancelled", "expired", "clicked", "replied")
COLUMNS: Final = ("id", "name", "status", "progress", "total", *FUNNEL, "created_at")


class _Bars:
    """Bars on stderr while it is a terminal; nothing else may know."""

    def __init__(self, *columns: Any) -> None:
        console = Console(stderr=True)
        self._progress = Progress(
            TextColumn("{task.description}"),
            *columns,
            console=console,
            disable=not console.is_terminal,
        )

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()


class Counting(_Bars):
    """How many recipients were enqueued so far; how many there are, nobody knows before the end."""

    def __init__(self) -> None:
        super().__init__(TimeElapsedColumn())
        self._task = self._progress.add_task("enqueueing", total=None)

    def seen(self, report: Report) -> None:
        self._progress.update(
            self._task, description=f"{report.queued} queued, {len(report.rejected)} rejected"
        )


class Following(_Bars):
    """A campaign's funnel, a bar each."""

    def __init__(self) -> None:
        super().__init__(BarColumn(), MofNCompleteColumn())
        self._tasks = {word: self._progress.add_task(word, total=None) for word in FUNNEL}

    def seen(self, campaign: Campaign) -> None:
        for word, task in self._tasks.items():
            self._progress.update(task, total=campaign.total, completed=getattr(campaign, word))


def report(campaign: Campaign, filled: Report, *, as_json: bool) -> None:
    """Show what became of a list of recipients."""
    if as_json:
        print_json(
            {
                "id": campaign.id,
                "status": campaign.status,
                "queued": filled.queued,
                "suppressed": filled.suppressed,
                "duplicates": filled.duplicates,
                "rejected": [rejection._asdict() for rejection in filled.rejected],
            }
        )
        return
    typer.echo(
        f"campaign {campaign.id} is {campaign.status}: {filled.queued} queued, "
        f"{filled.suppressed} suppressed, {filled.duplicates} had it already, "
        f"{len(filled.rejected)} rejected"
    )
    for rejection in filled.rejected[:MOST_REJECTIONS]:
        typer.echo(f"waemitter: {rejection.recipient}: {rejection.reason}", err=True)
    if (more := len(filled.rejected) - MOST_REJECTIONS) > 0:
        typer.echo(f"waemitter: and {more} more; --json lists all", err=True)


def costs(lines: Iterable[CostLine]) -> list[dict[str, Any]]:
    return [line._asdict() for line in lines]


def listed(campaigns: Sequence[Campaign], *, as_json: bool) -> None:
    rows = [_row(campaign) for campaign in campaigns]
    if as_json:
        print_json(rows)
    else:
        print_rows(rows, COLUMNS)


def described(
    campaign: Campaign,
    failures: Sequence[Failure],
    cost: Sequence[dict[str, Any]],
    *,
    as_json: bool,
) -> None:
    """Show one campaign, what failed by code, and what was delivered by price."""
    row = _row(campaign)
    if as_json:
        print_json(
            {**row, "failures": [failure._asdict() for failure in failures], "costs": list(cost)}
        )
        return
    names = ("id", "name", "channel", "category", "status", "total", *FUNNEL, *BESIDE, "progress")
    print_rows([{"": name, "value": row[name]} for name in names], ("", "value"))
    if failures:
        typer.echo()
        print_rows([failure._asdict() for failure in failures], Failure._fields)
    if cost:
        typer.echo()
        print_rows(cost, CostLine._fields)
        for currency, amount in sorted(_sums(cost).items()):
            typer.echo(f"about {amount} {currency}, by the imported rates")


def _sums(cost: Iterable[dict[str, Any]]) -> dict[str, Decimal]:
    sums: dict[str, Decimal] = {}
    for line in cost:
        if line["currency"] is not None:
            sums[line["currency"]] = sums.get(line["currency"], Decimal(0)) + line["amount"]
    return sums


def _row(campaign: Campaign) -> dict[str, Any]:
    return {**campaign._asdict(), "progress": f"{campaign.progress}%"}
