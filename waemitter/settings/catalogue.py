"""The settings as a flat list, read off the model: where each is found, and what is said of it."""

from __future__ import annotations

import types
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Union, cast, get_args, get_origin

from pydantic.fields import FieldInfo

from waemitter.settings.answering import AgentTable, AgentVariantTable, ReviewTable, ToolTable
from waemitter.settings.metadata import Group, Kind
from waemitter.settings.model import Settings
from waemitter.settings.routes import RouteTable, VariantTable
from waemitter.settings.sending import ChannelTable
from waemitter.settings.subscribing import EventTable


@dataclass(frozen=True, slots=True)
class Entry:
    """One setting: its dotted name, its variable (with older ones), and its presentation.

    `old` maps an older variable to the suffix that makes its value the new form. `later` says that
    this release accepts the setting without acting on it.
    """

    name: str
    environment: str
    old: Mapping[str, str]
    secret: bool
    later: bool
    kind: str
    default: object
    description: str

    @property
    def table(self) -> str:
        return self.name.rpartition(".")[0]

    @property
    def key(self) -> str:
        return self.name.rpartition(".")[2]

    @property
    def variables(self) -> tuple[str, ...]:
        """Every variable that can hold it, the files of secrets included."""
        names = (self.environment, *self.old)
        return (*names, *(f"{name}_FILE" for name in names)) if self.secret else names


_WORDS: Final[Mapping[Any, str]] = types.MappingProxyType(
    {bool: "true or false", int: "whole number", float: "number", str: "text", Path: "path"}
)


def _kind(annotation: Any, metadata: list[Any]) -> str:
    for note in metadata:
        if isinstance(note, Kind):
            return note.words
    arguments = get_args(annotation)
    origin = get_origin(annotation)
    if origin is Annotated:
        return _kind(arguments[0], list(arguments[1:]))
    if origin is Literal:
        return " or ".join(f"`{choice}`" for choice in arguments)
    if origin in {Union, types.UnionType}:
        return _kind(next(part for part in arguments if part is not type(None)), [])
    return _WORDS[annotation]


def _entry(field: FieldInfo, *, table: str, key: str, later: bool) -> Entry:
    extra = cast("dict[str, Any]", field.json_schema_extra)
    parts = [table, key] if table else [key]
    return Entry(
        name=".".join(parts),
        environment=extra["environment"] or f"WAEMITTER_{'__'.join(parts).upper()}",
        old=extra["old"],
        secret=extra["secret"],
        later=later or extra["later"],
        kind=_kind(field.annotation, field.metadata),
        default=field.get_default(call_default_factory=False),
        description=field.description or "",
    )


def _entries(model: type[Group], *, table: str = "", later: bool = False) -> Iterator[Entry]:
    for key, field in model.model_fields.items():
        extra = field.json_schema_extra
        # What is declared with neither `setting` nor `group` is not for users to set.
        if not isinstance(extra, dict):
            continue
        nested = field.annotation
        if isinstance(nested, type) and issubclass(nested, Group):
            yield from _entries(nested, table=key, later=bool(extra["later"]))
        else:
            yield _entry(field, table=table, key=key, later=later)


ENTRIES: Final = tuple(_entries(Settings))
BY_NAME: Final[Mapping[str, Entry]] = types.MappingProxyType({each.name: each for each in ENTRIES})
TABLES: Final = tuple(dict.fromkeys(each.table for each in ENTRIES if each.table))
CHANNEL_ENTRIES: Final = tuple(_entries(ChannelTable, table="channels"))
ROUTE_ENTRIES: Final = tuple(_entries(RouteTable, table="routes"))
VARIANT_ENTRIES: Final = tuple(_entries(VariantTable, table="routes.variants"))
AGENT_ENTRIES: Final = tuple(_entries(AgentTable, table="agents"))
AGENT_VARIANT_ENTRIES: Final = tuple(_entries(AgentVariantTable, table="agents.variants"))
REVIEW_ENTRIES: Final = tuple(_entries(ReviewTable, table="review"))
TOOL_ENTRIES: Final = tuple(_entries(ToolTable, table="tools"))
EVENT_ENTRIES: Final = tuple(_entries(EventTable, table="events"))


def did_you_mean(word: str, known: Iterable[str], *, prefix: str = "") -> str:
    """Say what was probably meant, as the tail of a sentence; empty when nothing is close.

    A common `prefix` is left out of the comparison, since it makes everything look alike.
    """
    names = {name.removeprefix(prefix): name for name in sorted(known)}
    close = get_close_matches(word.removeprefix(prefix), names, n=1)
    return f"; did you mean {names[close[0]]}?" if close else ""
