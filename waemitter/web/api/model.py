"""The API's documents: camelCase outside, and strict about what comes in."""

from __future__ import annotations

from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

CHANNEL: Final = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$"
"""What a channel's name looks like, as the table has it."""
CHANNEL_PARAMETER: Final = r"^([A-Za-z0-9][A-Za-z0-9_.-]{0,62})?$"
"""The same in an address, where a parameter without a value counts as left out."""


class Answered(BaseModel):
    """A document that goes out."""

    model_config = ConfigDict(
        alias_generator=to_camel, validate_by_name=True, frozen=True, defer_build=True
    )


class Body(BaseModel):
    """A document that comes in: what is not known in it is an error, since it may be a misspelling."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        extra="forbid",
        strict=True,
        hide_input_in_errors=True,
        defer_build=True,
    )


class Parameters(BaseModel):
    """What an address says: fields that its path names, and those of its query or headers."""

    model_config = ConfigDict(
        alias_generator=to_camel, extra="forbid", hide_input_in_errors=True, defer_build=True
    )


class Nothing(Parameters):
    """For operations without parameters, or without a body."""


class ById(Parameters):
    id: int = Field(ge=1, le=2**63 - 1)


class FaultDocument(Answered):
    field: str
    detail: str


class ProblemDocument(Answered):
    """RFC 9457; `errors` are there when several fields may be wrong."""

    type: str
    title: str
    status: int
    detail: str
    errors: list[FaultDocument] = []


def header(name: str, **limits: Any) -> Any:
    """Declare a parameter that a header carries; it may be left out."""
    return Field(None, alias=name, json_schema_extra={"in": "header"}, **limits)
