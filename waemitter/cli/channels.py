"""`waemitter channels …`: what each number does, stop it, let it go on."""

from __future__ import annotations

from math import inf
from typing import Annotated, Final

import typer

from waemitter.cli.context import AsJson, Config, print_json, print_rows, with_pool
from waemitter.outbox.channels.store import ChannelStore, Template
from waemitter.settings.durations import parse_duration

app: Final = typer.Typer(no_args_is_help=True, help="The numbers that messages leave from.")

COLUMNS: Final = (
    *("name", "state", "messages_per_second", "quality", "tier", "paused_until", "pause_reason"),
    "held_templates",
)
Name = Annotated[str, typer.Argument(metavar="CHANNEL")]


@app.command("list")
def list_channels(*, as_json: AsJson = False, config: Config = None) -> None:
    """State, rate, quality and tier, why it is paused, and which templates are held."""
    rows = with_pool(config, lambda pool: ChannelStore(pool).list())
    if as_json:
        print_json(rows)
    else:
        shown = [row | {"held_templates": ", ".join(row["held_templates"]) or None} for row in rows]
        print_rows(shown, COLUMNS)


@app.command()
def pause(
    channel: Name,
    *,
    duration: Annotated[
        str | None, typer.Option("--for", help="For so long, as in 2h; else until it is resumed.")
    ] = None,
    reason: Annotated[str, typer.Option(help="Why, for whoever asks.")] = "operator",
    as_json: AsJson = False,
    config: Config = None,
) -> None:
    """Send nothing on the channel. Messages wait, and no attempt is spent."""
    try:
        seconds = parse_duration(duration) if duration else inf
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--for") from None
    if reason != "operator":
        reason = f"operator: {reason}"
    paused = with_pool(
        config,
        lambda pool: ChannelStore(pool).pause(channel=channel, seconds=seconds, reason=reason),
    )
    _tell(channel, changed=bool(paused), word="paused", as_json=as_json)


@app.command()
def resume(channel: Name, *, as_json: AsJson = False, config: Config = None) -> None:
    """End the channel's pause now, whoever made it."""
    resumed = with_pool(config, lambda pool: ChannelStore(pool).resume(channel=channel))
    _tell(channel, changed=bool(resumed), word="resumed", as_json=as_json)


@app.command("release-template")
def release_template(
    channel: Name,
    template: Annotated[str, typer.Argument(metavar="TEMPLATE")],
    *,
    language: Annotated[str, typer.Option(help="Only this language.")] = "",
    as_json: AsJson = False,
    config: Config = None,
) -> None:
    """Let the messages of a held template go on."""
    released = with_pool(
        config, lambda pool: ChannelStore(pool).release(Template(channel, template, language))
    )
    if released is None:
        typer.echo(f"waemitter: no template {template} is held on {channel}", err=True)
        raise typer.Exit(1)
    if as_json:
        print_json({"released": released})
    else:
        typer.echo(f"{released} messages go on")


def _tell(channel: str, *, changed: bool, word: str, as_json: bool) -> None:
    """Exit code 1 when nothing changed."""
    if as_json:
        print_json({"channel": channel, word: changed})
    elif changed:
        typer.echo(f"{channel} is {word}")
    if not changed:
        typer.echo(f"waemitter: no effect: no such channel, or it was {word} already", err=True)
        raise typer.Exit(1)
