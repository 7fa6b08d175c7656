"""`waemitter`: the commands, each in a file of its own; they parse and print, and decide nothing."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from types import MappingProxyType
from typing import Annotated, Any, Final

import typer
from typer.core import TyperGroup
from typer.main import get_group
from typing_extensions import override

from waemitter import __version__

HOMES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "run": "run:run",
        "demo": "demo:run_demo",
        "schema": "schema:app",
        "check": "check:check",
        "doctor": "doctor:doctor",
        "send": "send:send",
        "optout": "optout:app",
        "outbox": "outbox:app",
        "dlq": "dlq:app",
        "events": "events:app",
        "channels": "channels:app",
        "conversation": "conversation:app",
        "jobs": "jobs:app",
        "flags": "flags:app",
        "campaign": "campaign:app",
        "route": "route:app",
        "keys": "keys:app",
        "media": "media:app",
        "agent": "agent:app",
        "simulate": "simulate:simulate",
        "bench": "bench:bench",
        "healthcheck": "healthcheck:healthcheck",
        "webhook": "webhook:app",
        "version": "main:version",
    }
)
"""Each command's module and name in it."""


@contextmanager
def _all_kept() -> Iterator[None]:
    """While modules are imported nothing becomes garbage, and to look for it takes a tenth of the time."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


class Commands(TyperGroup):
    """Imports a command when it is called: the daemon need not wait for the benches' modules."""

    @override
    def list_commands(self, ctx: Any) -> list[str]:
        return list(HOMES)

    @override
    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        home = HOMES.get(cmd_name)
        if home is None:
            return None
        module, name = home.split(":")
        with _all_kept():
            found = getattr(import_module(f"waemitter.cli.{module}"), name)
        family = typer.Typer()
        if isinstance(found, typer.Typer):
            family.add_typer(found, name=cmd_name)
        else:
            family.command(cmd_name)(found)
        return get_group(family).commands[cmd_name]


app: Final = typer.Typer(
    cls=Commands,
    name="waemitter",
    help="Sends and receives WhatsApp messages for applications that live beside a Postgres.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def waemitter() -> None:
    """Sends and receives WhatsApp messages for applications that live beside a Postgres."""


def version(
    *, as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False
) -> None:
    """This release."""
    typer.echo(f'{{"version": "{__version__}"}}' if as_json else __version__)


def main() -> None:
    app()
