"""The options as flags of a command line, made from the options themselves."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError, BooleanOptionalAction
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields
from typing import Any, Final

from waemitter.simulator.options import Options

DEFAULT_PORT: Final = 8090


def parser() -> ArgumentParser:
    """Make a parser with a flag for every option; `options_of` turns its result into `Options`."""
    made = ArgumentParser(
        prog="python -m waemitter.simulator", description="A WhatsApp Cloud API on localhost."
    )
    for option in fields(Options):
        made.add_argument(flag(option), **_settings(option))
    return made


def flag(option: Field[Any]) -> str:
    """`--webhook-url` for webhook_url."""
    return "--" + option.name.replace("_", "-")


def default(option: Field[Any]) -> Any:
    """Return the command line's own default: a fixed port, since people type it."""
    if option.name == "port":
        return DEFAULT_PORT
    return None if option.default is MISSING else option.default


def _settings(option: Field[Any]) -> dict[str, Any]:
    value = default(option)
    settings: dict[str, Any] = {"help": option.metadata["description"], "default": value}
    if isinstance(value, bool):
        return settings | {"action": BooleanOptionalAction}
    if option.name == "error_mix":
        return settings | {"action": "append", "metavar": "CODE=SHARE", "type": _share}
    if option.name == "phone_number_ids":
        return settings | {"action": "append", "default": None, "metavar": "ID"}
    if isinstance(value, tuple):
        return settings | {"nargs": 2, "type": float, "metavar": ("FROM", "TO")}
    if option.name == "seed":
        return settings | {"type": int}
    return settings | {"type": str if value is None else type(value)}


def _share(text: str) -> str:
    try:
        error_mix([text])
    except ValueError as error:
        raise ArgumentTypeError(str(error)) from None
    return text


def error_mix(items: list[str]) -> dict[int, float]:
    """`["131000=0.05"]` as `{131000: 0.05}`; raises `ValueError` for anything else."""
    mix = {}
    for item in items:
        code, _, share = item.partition("=")
        try:
            mix[int(code)] = float(share)
        except ValueError:
            raise ValueError(f"error_mix: {item!r} is not CODE=PROBABILITY") from None
    return mix


def options_of(values: Mapping[str, Any]) -> Options:
    """Return the options that parsed flags stand for; raises `ValueError` for bad ones."""
    given = dict(values)
    given["error_mix"] = error_mix(list(given.get("error_mix") or ()))
    for option in fields(Options):
        if isinstance(option.default, tuple):
            given[option.name] = tuple(given.get(option.name) or option.default)
    return Options(**given)
