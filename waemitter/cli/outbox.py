"""`waemitter outbox …`: look at the messages, send failed ones again, cancel waiting ones."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import Annotated, Any, Final

import typer

from waemitter.cli.context import AsJson, Config, print_json, print_rows, with_store
from waemitter.outbox.message import Status
from waemitter.outbox.store import Chosen, OutboxStore
from waemitter.settings.durations import parse_duration

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
PAGE: Final = 1000

OfStatus = Annotated[Status | None, typer.Option("--status", help="Only those of this status.")]
OfChannel = Annotated[str | None, typer.Option("--channel", help="Only those of this channel.")]
OfCampaign = Annotated[int | None, typer.Option("--campaign", help="Only those of this campaign.")]
OfCode = Annotated[int | None, typer.Option("--error-code", help="Only those Meta refused so.")]
OlderThan = Annotated[str | None, typer.Option("--older-than", help="Only older ones, as in 2h.")]
AllMatching = Annotated[bool, typer.Option(help="All that the filters match, in place of ids.")]
Ids = Annotated[list[int] | None, typer.Argument(help="The messages' ids.")]


def _chosen(
    status: Status | None,
    channel: str | None,
    campaign: int | None,
    error_code: int | None,
    older_than: str | None,
) -> Chosen:
    try:
        age = timedelta(seconds=parse_duration(older_than)) if older_than else None
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--older-than") from None
    return Chosen(status, channel, campaign, error_code, age)


@app.command("list")
def list_messages(
    *,
    status: OfStatus = None,
    channel: OfChannel = None,
    campaign: OfCampaign = None,
    error_code: OfCode = None,
    older_than: OlderThan = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="Most rows.")] = 50,
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
    change: Callable[[OutboxStore, Sequence[int]], Awaitable[Sequence[int]]],
    config: Any,
    *,
    all_matching: bool,
    as_json: bool,
) -> None:
    if bool(ids) == all_matching:
        raise typer.BadParameter("give ids, or filters with --all-matching")

    async def work(store: OutboxStore) -> tuple[int, list[int]]:
        if not all_matching:
            return len(ids), list(await change(store, ids))
        asked, changed, before = 0, list[int](), None
        while rows := await store.list(chosen, limit=PAGE, before=before):
            asked += len(rows)
            before = rows[-1]["id"]
            changed += await change(store, [row["id"] for row in rows])
        return asked, changed

    asked, changed = with_store(config, work)
    if as_json:
        print_json({"asked": asked, "changed": changed})
    else:
        typer.echo(f"{len(changed)} of {asked}")
    if not all_matching and len(changed) < asked:
        kept = sorted(set(ids) - set(changed))
        typer.echo(f"waemitter: no effect on {', '.join(map(str, kept))}", err=True)
        raise typer.Exit(1)
