"""What a setting is besides its type: its names, and whether it is secret or for later."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field

_NO_NAMES: Final[Mapping[str, str]] = MappingProxyType({})


class Group(BaseModel):
    """Some settings that belong together; a table of waemitter.toml."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        hide_input_in_errors=True,
        # Ids are digits, and TOML's unquoted numbers are meant as text.
        coerce_numbers_to_str=True,
        defer_build=True,  # the root builds them all; each for itself would cost every start its time
    )


@dataclass(frozen=True, slots=True)
class Kind:
    """What a value looks like, in the reference's words; rides in a type's metadata."""

    words: str


def setting(
    default: Any,
    description: str,
    *,
    environment: str | None = None,
    old: Mapping[str, str] = _NO_NAMES,
    secret: bool = False,
    later: bool = False,
    **limits: Any,
) -> Any:
    """Declare one setting of a group.

    `environment` is its variable when that is not WAEMITTER_<GROUP>__<NAME>. `old` maps each older
    name to the suffix that turns its value into the new form: "ms" for a number of milliseconds,
    "" for none. `later` marks what this release accepts without acting on it. `limits` are
    pydantic's own (gt, ge, le …).
    """
    extra: dict[str, Any] = {
        "environment": environment,
        "old": dict(old),
        "secret": secret,
        "later": later,
    }
    return Field(default, description=description, json_schema_extra=extra, **limits)


def group(model: type[Group], description: str, *, later: bool = False) -> Any:
    """Declare a group of settings; `later` holds for all of them."""
    extra: dict[str, Any] = {"later": later}
    return Field(default_factory=model, description=description, json_schema_extra=extra)
