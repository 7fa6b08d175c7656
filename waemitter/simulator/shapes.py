"""The grammar in which message bodies are described, and Meta's complaints when they break it.

A check is a function of a path and a value that raises `Refusal`, or does nothing. Checks are
built from the constructors below, so that a message type reads as a table of its fields.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from waemitter.simulator.errors import CATALOGUE, GraphError

Check = Callable[[str, Any], None]


class Refusal(Exception):
    """The request is refused with `error`."""

    def __init__(self, error: GraphError) -> None:
        super().__init__(error.code)
        self.error = error


def bad_parameter(details: str) -> Refusal:
    """100: the request's shape is wrong."""
    return Refusal(CATALOGUE[100].saying(details))


def missing(path: str) -> Refusal:
    """131008: a required field is not there."""
    return Refusal(CATALOGUE[131008].saying(f"Required parameter is missing: {path}"))


def bad_value(details: str) -> Refusal:
    """131009: a field is there, and its value will not do."""
    return Refusal(CATALOGUE[131009].saying(details))


def inside(path: str, key: str | int) -> str:
    """Return the path of a member, spelled as Meta spells it: `text['body']`."""
    if not path:
        return str(key)
    return f"{path}[{key}]" if isinstance(key, int) else f"{path}['{key}']"


def anything(path: str, value: object) -> None:
    """No rule, for what Meta leaves open."""


def record(required: Mapping[str, Check], optional: Mapping[str, Check] | None = None) -> Check:
    """Describe an object with just these fields."""
    fields = {**required, **(optional or {})}

    def check(path: str, value: Any) -> None:
        if not isinstance(value, dict):
            raise bad_parameter(f"Param {path} must be a JSON object.")
        for key in value:
            if key not in fields:
                where = f'param "{path}"' if path else "the message"
                raise bad_parameter(f'Unexpected key "{key}" on {where}.')
        for key in required:
            if value.get(key) is None:
                raise missing(inside(path, key))
        for key, member in value.items():
            fields[key](inside(path, key), member)

    return check


def open_record(path: str, value: object) -> None:
    """Describe an object of which Meta documents too little to be strict."""
    if not isinstance(value, dict):
        raise bad_parameter(f"Param {path} must be a JSON object.")


def array(item: Check, *, least: int = 1, most: int | None = None) -> Check:
    """Describe a list of `least` to `most` items."""

    def check(path: str, value: Any) -> None:
        if not isinstance(value, list):
            raise bad_parameter(f"Param {path} must be an array.")
        if len(value) < least or (most is not None and len(value) > most):
            raise bad_value(f"{path}: {len(value)} items. Min: {least}, Max: {most or 'none'}")
        for index, member in enumerate(value):
            item(inside(path, index), member)

    return check


def string(
    most: int | None = None, *, least: int = 1, label: str | None = None, trimmed: bool = False
) -> Check:
    """Describe a string of `least` to `most` characters.

    `label` names it in 131009; `trimmed` refuses blanks at its ends, as Meta does on buttons.
    """

    def check(path: str, value: Any) -> None:
        if not isinstance(value, str):
            raise bad_parameter(f"Param {path} must be a string.")
        if not value and least:
            raise missing(path)
        if len(value) < least or (most is not None and len(value) > most):
            raise bad_value(
                f"{label or path} length invalid. Min length: {least}, Max length: {most}"
            )
        if trimmed and value != value.strip():
            raise bad_value(f"{label or path} must not begin or end with a blank.")

    return check


def long_text(most: int) -> Check:
    """Describe the text of a message, whose excess Meta reports as 100 and not as 131009."""
    any_text = string()

    def check(path: str, value: Any) -> None:
        any_text(path, value)
        if len(value) > most:
            raise bad_parameter(f"Param {path} must be at most {most} characters long.")

    return check


def one_of(*choices: str) -> Check:
    """One of a few words."""

    def check(path: str, value: Any) -> None:
        if value not in choices:
            wanted = ", ".join(choices)
            raise bad_parameter(f'Param {path} must be one of {{{wanted}}} - got "{value}".')

    return check


def boolean(path: str, value: object) -> None:
    if not isinstance(value, bool):
        raise bad_parameter(f"Param {path} must be a boolean.")


def number(low: float, high: float) -> Check:
    """Describe a number within bounds, as such or as a string: Meta's own examples use both."""

    def check(path: str, value: Any) -> None:
        try:
            within = not isinstance(value, bool) and low <= float(value) <= high
        except (TypeError, ValueError):
            raise bad_parameter(f"Param {path} must be a number.") from None
        if not within:
            raise bad_value(f"{path} is out of range. Min: {low:g}, Max: {high:g}")

    return check


def web_address(path: str, value: object) -> None:
    string()(path, value)
    if not str(value).startswith(("http://", "https://")):
        raise bad_parameter(f"Param {path} is not a valid URI.")


def choice(key: str, shapes: Mapping[str, Check]) -> Check:
    """Describe an object whose `key` says which of `shapes` it has to have."""

    def check(path: str, value: Any) -> None:
        open_record(path, value)
        kind = value.get(key)
        if kind is None:
            raise missing(inside(path, key))
        one_of(*shapes)(inside(path, key), kind.lower() if isinstance(kind, str) else kind)
        shapes[kind.lower()](path, value)

    return check
