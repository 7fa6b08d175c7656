"""`waemitter`: the commands, each in a file of its own; they parse and print, and decide nothing."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from waemitter import __version__
from waemitter.cli import (
    agent,
    campaign,
    channels,
    dlq,
    flags,
    jobs,
    keys,
    media,
    optout,
    outbox,
    route,
    schema,
)
from waemitter.cli.bench import bench
from waemitter.cli.check import check
from waemitter.cli.demo import run_demo
from waemitter.cli.doctor import doctor
from waemitter.cli.healthcheck import healthcheck
from waemitter.cli.run import run
from waemitter.cli.send import send
from waemitter.cli.simulate import simulate
from waemitter.cli.webhook import app as webhook

app: Final = typer.Typer(
    name="waemitter",
    help="Sends and receives WhatsApp messages for applications that live beside a Postgres.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(run)
app.command("demo")(run_demo)
app.add_typer(schema.app, name="schema")
app.command()(check)
app.command()(doctor)
app.command()(send)
app.add_typer(optout.app, name="optout")
app.add_typer(outbox.app, name="outbox")
app.add_typer(dlq.app, name="dlq")
app.add_typer(channels.app, name="channels")
app.add_typer(jobs.app, name="jobs")
app.add_typer(flags.app, name="flags")
app.add_typer(campaign.app, name="campaign")
app.add_typer(route.app, name="route")
app.add_typer(keys.app, name="keys")
app.add_typer(media.app, name="media")
app.add_typer(agent.app, name="agent")
app.command()(simulate)
app.command()(bench)
app.command()(healthcheck)
app.add_typer(webhook, name="webhook")


@app.command()
def version(
    *, as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False
) -> None:
    """This release."""
    typer.echo(f'{{"version": "{__version__}"}}' if as_json else __version__)


def main() -> None:
    app()
