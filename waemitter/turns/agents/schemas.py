"""What a tool may be asked: JSON schemas, of arguments that a model wrote."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from waemitter.errors import UsageError

LONGEST: Final = 16 << 10
"""Characters of arguments; a model that writes more has lost its way."""
_MISSING: Final = "an agent has tools, and the package jsonschema is not installed: pip install 'waemitter[agents]'"


class WrongArguments(Exception):
    """The arguments are none that the tool takes; `args[0]` tells the model why."""


def complaint_about(schema: Mapping[str, Any]) -> str | None:
    """Say what is wrong with a schema, None when it is one of an object. Raises UsageError without the package jsonschema."""
    jsonschema = _package()
    if schema.get("type") != "object":
        return 'must describe an object: type = "object"'
    try:
        jsonschema.Draft202012Validator.check_schema(schema)
    except jsonschema.SchemaError as error:
        return f"is no JSON schema: {error.message}"
    return None


def arguments_of(text: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    """Read and check what the model wrote. Raises WrongArguments."""
    if len(text) > LONGEST:
        raise WrongArguments(f"the arguments have more than {LONGEST} characters")
    try:
        arguments = json.loads(text or "{}")
    except (ValueError, RecursionError):
        raise WrongArguments("the arguments are no JSON") from None
    validator = _package().Draft202012Validator(schema)
    wrong = next(iter(validator.iter_errors(arguments)), None)
    if wrong is not None:
        raise WrongArguments(f"{wrong.json_path}: {wrong.message}"[:300])
    checked: dict[str, Any] = arguments
    return checked


def _package() -> Any:
    try:
        import jsonschema  # noqa: PLC0415  only where an agent has tools
    except ImportError:
        raise UsageError(_MISSING) from None
    return jsonschema
