"""`waemitter outbox …`: look at the messages, send failed ones again, cancel waiting ones."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, Any, Final

import typer

from waemitter.cli.context import AsJson, Config, print_json, print_rows, with_store
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
from waemitter.outbox.message import Status
from waemitter.outbox.store import Chosen, OutboxStore

app: Final = typer.Typer(no_args_is_help=True, help="The messages on their way out.")

COLUMNS: Final = (
    "id",
    "status",
    "channel",
    "recipient",
    "message_type",
    "attempts",
    "error_code",
    "created_at",
    "error_message",
)

OfStatus = Annotated[Status | None, typer.Option("--status", help="Only those of this status.")]
OfCampaign = Annotated[int | None, typer.Option("--campaign", help="Only those of this campaign.")]
Ids = Annotated[list[int] | None, typer.Argument(help="The messages' ids.")]


def _chosen(
    status: Status | None,
    channel: str | None,
    campaign: int | None,
    error_code: int | None,
    older_than: str | None,
) -> Chosen:
    return Chosen(status, channel, campaign, error_code, age(older_than))


@app.command("list")
def list_messages(
    *,
    status: OfStatus = None,
    channel: OfChannel = None,
    campaign: OfCampaign = None,
    error_code: OfCode = None,
    older_than: OlderThan = None,
    limit: Limit = 50,
    as_json: AsJson = False,
    config: Config = None,
) -> None:
    """The newest messages first."""
    chosen = _chosen(status, channel, campaign, error_code, older_than)
    rows = with_store(config, lambda store: store.list(chosen, limit=limit))
    if as_json:
        print_json(rows)
    else:
        print_rows(rows, COLUMNS)


@app.command()
def show(
    message_id: Annotated[int, typer.Argument(metavar="ID")],
    *,
    as_json: AsJson = False,
    config: Config = None,
) -> None:
    """One message, whole, and what happened to it."""
    found = with_store(config, lambda store: store.get(message_id))
    if found is None:
        typer.echo(f"waemitter: there is no message {message_id}", err=True)
        raise typer.Exit(1)
    row, events = found
    if as_json:
        print_json({**row, "events": events})
        return
    print_rows(
        [{"column": name, "value": value} for name, value in row.items() if value is not None],
        ("column", "value"),
    )
    typer.echo()
    print_rows(events, ("at", "from_status", "to_status", "detail"))


@app.command()
def retry(  # noqa: PLR0913 a filter each
    ids: Ids = None,
    *,
    all_matching: AllMatching = False,
    status: OfStatus = None,
    channel: OfChannel = None,
    campaign: OfCampaign = None,
    error_code: OfCode = None,
    older_than: OlderThan = None,
    as_json: AsJson = False,
    config: Config = None,
) -> None:
    """Queue messages once more that failed, were cancelled or expired, or are held as unconfirmed."""
    chosen = _chosen(status, channel, campaign, error_code, older_than)
    _change(
        ids or [], chosen, OutboxStore.retry, config, all_matching=all_matching, as_json=as_json
    )


@app.command()
def cancel(  # noqa: PLR0913 a filter each
    ids: Ids = None,
    *,
    all_matching: AllMatching = False,
    status: OfStatus = None,
    channel: OfChannel = None,
    campaign: OfCampaign = None,
    error_code: OfCode = None,
    older_than: OlderThan = None,
    as_json: AsJson = False,
    config: Config = None,
) -> None:
    """Cancel messages that have not left yet."""
    chosen = _chosen(status, channel, campaign, error_code, older_than)
    _change(
        ids or [], chosen, OutboxStore.cancel, config, all_matching=all_matching, as_json=as_json
    )


def _change(
    ids: Sequence[int],
    chosen: Chosen,
    act: Callable[[OutboxStore, Sequence[int]], Awaitable[Sequence[int]]],
    config: Any,
    *,
    all_matching: bool,
    as_json: bool,
) -> None:
    need_ids(ids, all_matching=all_matching)

    async def work(store: OutboxStore) -> tuple[int, list[int]]:
        rows = Rows(
            page=lambda limit, before: store.list(chosen, limit=limit, before=before),
            change=lambda some: act(store, some),
        )
        return await change(rows, ids, all_matching=all_matching)

    asked, changed = with_store(config, work)
    tell_changed(ids, asked, changed, all_matching=all_matching, as_json=as_json)
