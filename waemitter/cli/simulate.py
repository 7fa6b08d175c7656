"""`waemitter simulate`: the local Cloud API."""

from __future__ import annotations

import inspect
from dataclasses import fields
from typing import Any

import typer

from waemitter.simulator.flags import default, flag, options_of
from waemitter.simulator.options import Options
from waemitter.simulator.runner import run


def simulate(**flags: Any) -> None:
    """Serve a WhatsApp Cloud API on localhost, with limits, faults and customers of your choice.

    Prints its address as one JSON line, and on SIGINT or SIGTERM a report of all it accepted.
    """
    try:
        options = options_of(flags)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    try:
        code = run(options)
    except OSError as error:
        typer.echo(f"cannot listen: {error}", err=True)
        raise typer.Exit(1) from None
    raise typer.Exit(code)


def _signature() -> inspect.Signature:
    """One typer option for each field of `Options`, so that no option is told twice."""
    parameters = []
    for field in fields(Options):
        value = default(field)
        declared: Any = type(value)
        if field.name == "seed":
            declared = int | None
        elif field.name in {"error_mix", "phone_number_ids"}:
            value, declared = [], list[str]
        elif isinstance(value, tuple):
            declared = tuple[float, float]
        elif value is None:
            declared = str | None
        parameters.append(
            inspect.Parameter(
                field.name,
                inspect.Parameter.KEYWORD_ONLY,
                annotation=declared,
                default=_typer_option(
                    field.name, value, flag(field), field.metadata["description"]
                ),
            )
        )
    return inspect.Signature(parameters)


def _typer_option(name: str, value: Any, spelling: str, description: str) -> Any:
    if isinstance(value, bool):
        spelling = f"{spelling}/--no-{spelling.removeprefix('--')}"
    metavar = "CODE=SHARE" if name == "error_mix" else None
    return typer.Option(value, spelling, help=description, metavar=metavar)


_PARAMETERS = _signature()
vars(simulate)["__signature__"] = _PARAMETERS
simulate.__annotations__ = {name: p.annotation for name, p in _PARAMETERS.parameters.items()}
