"""`waemitter webhook …`: look at the journal, have webhooks worked off once more, sign a body for curl."""

from __future__ import annotations

import shlex
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from waemitter.cli.context import (
    AsJson,
    Config,
    explained,
    loaded,
    print_json,
    print_rows,
    with_pool,
)
from waemitter.errors import UsageError
from waemitter.inbox.journal.store import Chosen, ReplayStore
from waemitter.settings.durations import parse_duration
from waemitter.whatsapp.signature import sign as signature_of

app: Final = typer.Typer(no_args_is_help=True, help="The journal of webhooks.")

COLUMNS: Final = (
    "id",
    "state",
    "source",
    "bytes",
    "attempts",
    "created_at",
    "processed_at",
    "error",
)
PAGE: Final = 1000
HEADER: Final = "X-Hub-Signature-256"

Since = Annotated[
    str | None, typer.Option("--since", help="Only later ones: a time, or an age as in 2h.")
]
Until = Annotated[
    str | None, typer.Option("--until", help="Only earlier ones: a time, or an age as in 10m.")
]
Ids = Annotated[list[int] | None, typer.Option("--id", help="Only this one; several times.")]
WithError = Annotated[
    str | None, typer.Option("--error", help="Only those whose error contains this; '' is any.")
]


def _chosen(
    ids: list[int] | None, since: str | None, until: str | None, error: str | None
) -> Chosen:
    return Chosen(
        ids=ids or None,
        since=_moment("--since", since),
        until=_moment("--until", until),
        error=error,
    )


def _moment(option: str, given: str | None) -> datetime | timedelta | None:
    """A time of one's own clock, or an age by the database's."""
    if given is None:
        return None
    try:
        moment = datetime.fromisoformat(given)
    except ValueError:
        try:
            return timedelta(seconds=parse_duration(given))
        except ValueError:
            raise typer.BadParameter(
                f"{given!r} is neither a time (2026-11-22T10:00, 2026-11-22T10:00:00Z) nor an age (90s, 2h)",
                param_hint=option,
            ) from None
    return moment.astimezone(UTC)


@app.command("list")
def list_webhooks(
    *,
    since: Since = None,
    until: Until = None,
    error: WithError = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="Most rows.")] = 50,
    as_json: AsJson = False,
    config: Config = None,
) -> None:
    """The newest webhooks first."""
    chosen = _chosen(None, since, until, error)
    rows = with_pool(config, lambda pool: ReplayStore(pool).newest_first(chosen, limit=limit))
    if as_json:
        print_json(rows)
    else:
        print_rows(rows, COLUMNS)


@app.command()
def show(
    webhook_id: Annotated[int, typer.Argument(metavar="ID")],
    *,
    body: Annotated[
        bool, typer.Option("--body", help="Its body too: names, numbers, what people wrote.")
    ] = False,
    as_json: AsJson = False,
    config: Config = None,
) -> None:
    """One webhook, and what became of it."""
    row = with_pool(config, lambda pool: ReplayStore(pool).get(webhook_id))
    if row is None:
        typer.echo(f"waemitter: there is no webhook {webhook_id}", err=True)
        raise typer.Exit(1)
    raw: bytes = row.pop("body")
    if body:
        row["body"] = raw.decode(errors="backslashreplace")
    if as_json:
        print_json(row)
        return
    print_rows(
        [{"column": name, "value": value} for name, value in row.items() if value is not None],
        ("column", "value"),
    )


@app.command()
def replay(
    *,
    ids: Ids = None,
    since: Since = None,
    until: Until = None,
    error: WithError = None,
    as_json: AsJson = False,
    config: Config = None,
) -> None:
    """Have webhooks worked off once more; what they did already is not done again."""
    chosen = _chosen(ids, since, until, error)
    if chosen == Chosen():
        raise typer.BadParameter("say which: --id, --since, --until or --error")

    async def work(store: ReplayStore) -> int:
        replayed = last = 0
        while rows := await store.replay(chosen, after=last, limit=PAGE):
            replayed, last = replayed + len(rows), max(rows)
        return replayed

    replayed = with_pool(config, lambda pool: work(ReplayStore(pool)))
    if as_json:
        print_json({"replayed": replayed})
    else:
        typer.echo(f"{replayed} webhook{'' if replayed == 1 else 's'} due again")


@app.command()
def sign(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, readable=True)],
    *,
    url: Annotated[
        str | None, typer.Option("--curl", help="Print the whole curl command, to this URL.")
    ] = None,
    as_json: AsJson = False,
    config: Config = None,
) -> None:
    """The header with which Meta would send this body, byte for byte."""
    with explained():
        settings = loaded(config).settings
        secrets: list[Any] = [*settings.whatsapp.app_secrets]
        for channel in settings.channels:
            secrets += channel.app_secrets
        if not secrets:
            raise UsageError(
                "WHATSAPP_APP_SECRET is not set: a body is signed with the app's secret"
            )
    signature = signature_of(secrets[0].get_secret_value(), file.read_bytes())
    if as_json:
        print_json({"header": HEADER, "value": signature})
    elif url is not None:
        body = f"@{file}"
        arguments = [
            *("curl", "--data-binary", body, "-H", "Content-Type: application/json"),
            *("-H", f"{HEADER}: {signature}", url),
        ]
        typer.echo(shlex.join(arguments))
    else:
        typer.echo(f"{HEADER}: {signature}")
