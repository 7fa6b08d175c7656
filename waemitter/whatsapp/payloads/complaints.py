"""What pydantic found wrong in a payload, in the words of whoever wrote it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from pydantic_core import ErrorDetails

from waemitter.errors import PayloadError
from waemitter.whatsapp.payloads.shapes import TAG

_RULES: Final = {
    "advice": "{reason}",
    "missing": "is missing: Meta requires it",
    "string_too_long": "has {length} characters: at most {max_length} are allowed, shorten it",
    "string_too_short": "is empty: write something",
    "string_type": "must be text",
    "string_unicode": "must be valid Unicode text",
    "too_long": "holds {length}: at most {max_length} are allowed",
    "too_short": "holds {length}: at least {min_length} are needed",
    "list_type": "must be an array",
    "model_type": "must be an object, as in the Cloud API",
    "literal_error": "must be {expected}",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "finite_number": "must be a finite number",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_parsing_size": "must be a smaller number",
    "int_from_float": "must be a whole number",
    "greater_than_equal": "must be at least {ge:g}",
    "less_than_equal": "must be at most {le:g}",
}


def complaint(root: str, details: ErrorDetails) -> PayloadError:
    """Name the field by its JSON path, with the limit it breaks, and never with its content."""
    context = details.get("ctx", {})
    steps = [*details["loc"], *context.get("at", ())]
    return PayloadError(_path(root, steps), _reason(details, context))


def _path(root: str, steps: Iterable[str | int]) -> str:
    path = root
    for step in steps:
        if isinstance(step, int):
            path += f"[{step}]"
        elif not step.startswith(TAG):
            path += f".{step}"
    return path


def _reason(details: ErrorDetails, context: dict[str, Any]) -> str:
    given = details["input"]
    if given is None:
        return _RULES["missing"]
    rule = _RULES.get(details["type"])
    if rule is None:
        return details["msg"]
    length = len(given) if isinstance(given, str | list) else 0
    return rule.format_map({**context, "length": length})
