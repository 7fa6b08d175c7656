"""Settings from every source, in their order, with the origin of each and every problem at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from pydantic import ValidationError

from waemitter.settings.agents import AgentTables
from waemitter.settings.answering import AgentSettings
from waemitter.settings.catalogue import BY_NAME, ENTRIES, did_you_mean
from waemitter.settings.channels import (
    ChannelTables,
    channel_origins,
    default_channel,
    default_desks,
)
from waemitter.settings.complaints import complaint
from waemitter.settings.consistency import contradictions
from waemitter.settings.environment import read_environment
from waemitter.settings.events import EventTables
from waemitter.settings.file import find_file, read_file
from waemitter.settings.findings import Findings, Found, InvalidSettings
from waemitter.settings.model import Settings
from waemitter.settings.routes import RouteSettings
from waemitter.settings.routing import RouteTables
from waemitter.settings.subscribing import EventSettings
from waemitter.settings.values import phone_number_id_of

_NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Loaded:
    """The settings, and where they came from.

    `origins` says it for every dotted name; `unused` holds the variables that were recognised and
    have no effect, each with the reason; `file` is the waemitter.toml that was read.
    """

    settings: Settings
    origins: Mapping[str, str]
    unused: Mapping[str, str]
    file: Path | None


def load(
    *,
    environ: Mapping[str, str],
    config: Path | None,
    overrides: Mapping[str, Any] = _NOTHING,
) -> Loaded:
    """Read the settings: overrides before the environment before the file before the defaults.

    `config` names the file; without it WAEMITTER_CONFIG does, or ./waemitter.toml is read if there
    is one. `overrides` are the command line's, by dotted name; None stands for an option not given.
    Raises InvalidSettings, a UsageError, with one line for each problem.
    """
    findings = Findings()
    file = find_file(config, environ)
    collections = read_file(file, findings) if file is not None else {}
    read_environment(environ, findings)
    _read_overrides(overrides, findings)
    _take_phone_number_id_from_url(findings)

    settings = _validated(findings)
    origins = _origins(findings)
    if file is not None and collections.get("channels"):
        tables = ChannelTables(file, collections["channels"], environ)
        channels, desks = tables.resolve(settings, findings)
        if not findings.problems:
            origins |= channel_origins(channels, tables, origins)
    else:
        channels, desks = (default_channel(settings),), ()
    agents: tuple[AgentSettings, ...] = ()
    if file is not None and collections.get("agents"):
        agents = AgentTables(file, collections["agents"], environ).resolve(settings, findings)
    routes: tuple[RouteSettings, ...] = ()
    if file is not None and collections.get("routes"):
        names = tuple(collections.get("agents", ()))
        routes = RouteTables(file, collections["routes"], environ, names).resolve(findings)
    subscriptions: tuple[EventSettings, ...] = ()
    if file is not None and collections.get("events"):
        subscriptions = EventTables(file, collections["events"], environ).resolve(findings)
    if findings.problems:
        raise InvalidSettings(tuple(dict.fromkeys(findings.problems)))
    settings = settings.model_copy(
        update={
            "channels": channels,
            "desks": desks or default_desks(settings),
            "folder": file.parent.resolve() if file is not None else Path.cwd(),
            "routes": routes,
            "agents": agents,
            "subscriptions": subscriptions,
        }
    )
    return Loaded(settings, MappingProxyType(origins), MappingProxyType(findings.unused), file)


def _read_overrides(overrides: Mapping[str, Any], findings: Findings) -> None:
    for name, value in overrides.items():
        if name not in BY_NAME:
            hint = did_you_mean(name, BY_NAME)
            findings.problems.append(f"{name} (command line) is not a setting{hint}")
        elif value is not None:
            written = f"{name} (command line)"
            findings.values[name] = Found(value, written, "command line", shown=value)


def _take_phone_number_id_from_url(findings: Findings) -> None:
    url = findings.values.get("whatsapp.api_url")
    if url is None or "whatsapp.phone_number_id" in findings.values:
        return
    if found := phone_number_id_of(str(url.value)):
        findings.values["whatsapp.phone_number_id"] = Found(
            found, url.written, url.origin, shown=url.shown
        )


def _validated(findings: Findings) -> Settings:
    """Validate what was found; a wrong value is a finding, and its default stands in for it."""
    values = dict(findings.values)
    try:
        settings = Settings.model_validate(_nested(values))
    except ValidationError as error:
        for details in error.errors(include_url=False):
            name = ".".join(str(part) for part in details["loc"][:2])
            name = name if name in BY_NAME else str(details["loc"][0])
            found = values.pop(name, None)
            if found is not None:
                line = complaint(details, found, secret=BY_NAME[name].secret)
                findings.problems.append(line)
        settings = Settings.model_validate(_nested(values))
    wrong = findings.values.keys() - values.keys()

    def written(name: str) -> str:
        found = findings.values.get(name)
        return found.written if found else BY_NAME[name].environment

    findings.problems += [
        each.complaint for each in contradictions(settings, written) if not each.names & wrong
    ]
    return settings


def _nested(values: Mapping[str, Found]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for name, found in values.items():
        table, _, key = name.rpartition(".")
        (tree.setdefault(table, {}) if table else tree)[key] = found.value
    return tree


def _origins(findings: Findings) -> dict[str, str]:
    origins = {
        entry.name: findings.values[entry.name].origin
        if entry.name in findings.values
        else "default"
        for entry in ENTRIES
    }
    libpq = findings.values.get("database.from_libpq")
    if libpq is not None and "database.url" not in findings.values:
        origins["database.url"] = libpq.origin
    return origins
