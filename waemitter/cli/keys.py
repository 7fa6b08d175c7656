"""`waemitter keys`: the HTTP API's keys."""

from __future__ import annotations

import secrets
from datetime import timedelta
from typing import Annotated, Any, Final

import typer

from waemitter.cli.context import AsJson, Config, print_json, print_rows, with_pool
from waemitter.settings.durations import parse_duration
from waemitter.web.auth import digest
from waemitter.web.scopes import SCOPES
from waemitter.web.store import KeyStore

app: Final = typer.Typer(no_args_is_help=True, help="The keys of the HTTP API.")

PREFIX: Final = "wae_"
"""So that a key is known for one where it leaked: scanners of repositories look for prefixes."""
RANDOM_BYTES: Final = 32
COLUMNS: Final = ("id", "name", "scopes", "created_at", "expires_at", "last_used_at", "revoked_at")


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="Who will use it.", metavar="NAME")],
    *,
    scope: Annotated[
        list[str] | None, typer.Option("--scope", help=f"What it may do: {', '.join(SCOPES)}.")
    ] = None,
    expires: Annotated[
        str | None, typer.Option("--expires", help="How long it is good, as in 90d.")
    ] = None,
    as_json: AsJson = False,
    config: Config = None,
) -> None:
    """Make a key and print it: this once, since only its hash is kept."""
    scopes = sorted(set(scope or []))
    if not scopes or not set(scopes) <= set(SCOPES):
        raise typer.BadParameter(f"one or more of {', '.join(SCOPES)}", param_hint="--scope")
    if not 1 <= len(name) <= 100:  # noqa: PLR2004 as the table has it
        raise typer.BadParameter("from 1 to 100 characters", param_hint="NAME")
    try:
        lasts = timedelta(seconds=parse_duration(expires)) if expires else None
    except (ValueError, OverflowError) as error:
        raise typer.BadParameter(str(error), param_hint="--expires") from None
    secret = PREFIX + secrets.token_urlsafe(RANDOM_BYTES)
    made = with_pool(
        config,
        lambda pool: KeyStore(pool).create(name, digest=digest(secret), scopes=scopes, lasts=lasts),
    )
    if as_json:
        print_json({**made, "key": secret})
        return
    typer.echo(secret)
    typer.echo(f"waemitter: key {made['id']} ({name}); it is not shown again", err=True)


@app.command("list")
def list_keys(*, as_json: AsJson = False, config: Config = None) -> None:
    """All keys, the revoked ones too; the secrets are not kept."""
    rows = with_pool(config, lambda pool: KeyStore(pool).list())
    if as_json:
        print_json(rows)
    else:
        print_rows([_shown(row) for row in rows], COLUMNS)


@app.command()
def revoke(
    key_id: Annotated[int, typer.Argument(metavar="ID")],
    *,
    as_json: AsJson = False,
    config: Config = None,
) -> None:
    """Refuse a key from now on; running daemons know within a second."""
    revoked = with_pool(config, lambda pool: KeyStore(pool).revoke(key_id))
    if as_json:
        print_json({"id": key_id, "revoked": revoked})
    if not revoked:
        typer.echo(f"waemitter: there is no key {key_id} that is good", err=True)
        raise typer.Exit(1)


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    return {**row, "scopes": "+".join(row["scopes"])}
