"""The effective settings in a form to look at: `check` prints it, and no secret is in it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import time
from typing import Any, Final

from pydantic import SecretStr

from waemitter.settings.answering import AgentSettings
from waemitter.settings.catalogue import AGENT_ENTRIES, CHANNEL_ENTRIES, ENTRIES, Entry
from waemitter.settings.channels import FALLBACKS
from waemitter.settings.durations import format_duration
from waemitter.settings.loading import Loaded
from waemitter.settings.values import HIDDEN, ApiKey, Dsn

UNSET: Final = "-"


@dataclass(frozen=True, slots=True)
class Row:
    """One setting as it stands: `text` for people, `value` for programs (durations in seconds)."""

    name: str
    text: str
    value: Any
    origin: str
    later: bool


def rows(loaded: Loaded) -> Iterator[Row]:
    """Tell every setting, then what each `[[channels]]` table came to, then who answers for each route."""
    for entry in ENTRIES:
        table = getattr(loaded.settings, entry.table) if entry.table else loaded.settings
        yield _row(entry, entry.name, getattr(table, entry.key), loaded)
    for channel in loaded.settings.channels:
        for key in FALLBACKS:
            name = f"channels.{channel.name}.{key}"
            if name in loaded.origins:
                yield _row(_entry_of(key), name, getattr(channel, key), loaded)
    for route in loaded.settings.routes:
        kinds = [each.handler for each in route.answering]
        yield Row(f"routes.{route.name}", ", ".join(kinds), kinds, str(loaded.file), later=False)
    for agent in loaded.settings.agents:
        yield from _agent_rows(agent, loaded)
    for each in loaded.settings.subscriptions:
        told = f"{', '.join(each.table.types)} to {each.target}"
        yield Row(f"events.{each.name}", told, told, str(loaded.file), later=False)


def _agent_rows(agent: AgentSettings, loaded: Loaded) -> Iterator[Row]:
    """What the agent's table says, then each variant; prompts by their length, since they are pages."""
    general = {"base_url": "openai.base_url"}
    for entry in AGENT_ENTRIES:
        if not entry.key.startswith("system_prompt"):
            shown = agent if entry.key in general else agent.table
            written = entry.key in agent.table.model_fields_set
            origin = str(loaded.file) if written else general.get(entry.key, "default")
            value = getattr(shown, entry.key)
            name = f"agents.{agent.name}.{entry.key}"
            yield Row(name, as_text(value, entry.kind), as_json(value), origin, later=False)
    for tool in agent.tools:
        name, told = (
            f"agents.{agent.name}.tools.{tool.name}",
            f"{tool.url}, {format_duration(tool.timeout)}",
        )
        yield Row(name, told, told, str(loaded.file), later=False)
    for variant in agent.variants:
        told = f"{variant.model}, weight {variant.weight:g}, a prompt of {len(variant.system_prompt)} characters"
        name = f"agents.{agent.name}.variants.{variant.name}"
        yield Row(name, told, told, str(loaded.file), later=False)


def _entry_of(key: str) -> Entry:
    own = {entry.key: entry for entry in CHANNEL_ENTRIES}
    general = {entry.name: entry for entry in ENTRIES}
    return own.get(key) or general[FALLBACKS[key]]


def _row(entry: Entry, name: str, value: Any, loaded: Loaded) -> Row:
    return Row(
        name=name,
        text=as_text(value, entry.kind),
        value=as_json(value),
        origin=loaded.origins[name],
        later=entry.later,
    )


def as_text(value: Any, kind: str) -> str:
    """Write a value as its owner might have, durations with their unit and secrets hidden."""
    if value is None or value == ():
        return UNSET
    if isinstance(value, tuple):
        return ", ".join(as_text(item, kind) for item in value)
    if isinstance(value, bool):
        return str(value).lower()
    if "duration" in kind:
        return format_duration(value)
    return f"{value:g}" if isinstance(value, float) else str(as_json(value))


def as_json(value: Any) -> Any:
    """Turn a value into what JSON knows: seconds for durations, secrets hidden."""
    match value:
        case tuple():
            return [as_json(item) for item in value]
        case Dsn() | ApiKey():
            return str(value)
        case SecretStr():
            return HIDDEN
        case time():
            return f"{value:%H:%M}"
        case None | bool() | int() | float():
            return value
        case _:
            return str(value)
