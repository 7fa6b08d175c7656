"""What pydantic found wrong, in one line for the person who wrote the value."""

from __future__ import annotations

from typing import Final

from pydantic_core import ErrorDetails

from waemitter.settings.findings import Found

_LONGEST: Final = 80
_RULES: Final = {
    "greater_than": "must be more than {gt:g}",
    "greater_than_equal": "must be at least {ge:g}",
    "less_than_equal": "must be at most {le:g}",
    "literal_error": "must be {expected}",
    "int_parsing": "must be a whole number",
    "int_parsing_size": "must be a smaller number",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_parsing": "must be a number",
    "float_type": "must be a number",
    "finite_number": "must be a finite number",
    "bool_parsing": "must be true or false",
    "bool_type": "must be true or false",
    "string_type": "must be text",
    "string_too_short": "must not be empty",
    "string_too_long": "must have at most {max_length} characters",
    "too_short": "must not be empty",
    "tuple_type": "must be a list",
    "path_type": "must be a path",
}


def rule(details: ErrorDetails) -> str:
    """Say what would be right, without the value."""
    context = details.get("ctx", {})
    if details["type"] == "value_error":
        return str(context["error"])
    known = _RULES.get(details["type"])
    return known.format_map(context) if known else f"is wrong: {details['msg']}"


def complaint(details: ErrorDetails, found: Found, *, secret: bool) -> str:
    """Say which value is wrong and what would be right; a secret is not repeated."""
    line = f"{found.written} {rule(details)}"
    return line if secret or found.shown is None else f"{line} (it is {_short(found.shown)})"


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
