"""Settings from environment variables, by their new names and their old ones.

An empty variable counts as not set, because Compose files and units pass on what they were not
given as empty text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from waemitter.settings.catalogue import BY_NAME, ENTRIES, Entry, did_you_mean
from waemitter.settings.findings import Findings, Found

_PREFIX: Final = "WAEMITTER_"

# asyncpg reads these itself when no address is given.
_LIBPQ: Final = ("PGHOST", "PGHOSTADDR", "PGPORT", "PGDATABASE", "PGUSER", "PGSERVICE")
_UNUSED: Final = {
    "SUPABASE_URL": "the database is reached through DATABASE_URL",
    "APP_URL": "nothing here needs to know its own public address",
}
_NOT_SETTINGS: Final = frozenset({"WAEMITTER_CONFIG", "WAEMITTER_TEST_POSTGRES"})
_UNITS: Final = {"ms": "milliseconds, such as 30000", "h": "hours, such as 24"}

# Kubernetes gives every container such variables for each Service, one named waemitter included.
_KUBERNETES: Final = re.compile(
    r"WAEMITTER_(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)"
)
_KUBERNETES_PORT: Final = re.compile(r"(tcp|udp|sctp)://")


def read_environment(environ: Mapping[str, str], findings: Findings) -> None:
    for entry in ENTRIES:
        current = _read(entry, entry.environment, environ, findings)
        former = {
            name: found
            for name, suffix in entry.old.items()
            if (found := _read(entry, name, environ, findings, suffix=suffix))
        }
        if current is not None:
            findings.values[entry.name] = current
            findings.unused |= dict.fromkeys(former, f"{current.written} is set and wins")
        elif former:
            findings.values[entry.name] = _together(entry, list(former.values()))
    _find_libpq(environ, findings)
    findings.unused |= {name: why for name, why in _UNUSED.items() if environ.get(name)}
    findings.problems += _strangers(environ)


def _read(
    entry: Entry,
    name: str,
    environ: Mapping[str, str],
    findings: Findings,
    *,
    suffix: str | None = None,
) -> Found | None:
    value = environ.get(name) or None
    written, origin = name, f"environment {name}" if suffix is None else f"old name {name}"
    if entry.secret and (file := environ.get(f"{name}_FILE")):
        if value is not None:
            findings.problems.append(f"{name} and {name}_FILE are both set; keep one of them")
            return None
        written, origin = f"{name}_FILE", f"file {file} ({name}_FILE)"
        value = findings.read_secret(Path(file), written=written)
    if value is None:
        return None
    if suffix in _UNITS and not re.fullmatch(r"\s*\d+(\.\d+)?\s*", value):
        findings.problems.append(f"{name} must be a number of {_UNITS[suffix]} (it is {value!r})")
        return None
    return Found(value + (suffix or ""), written, origin, shown=value)


def _together(entry: Entry, former: list[Found]) -> Found:
    if len(entry.old) == 1:
        return former[0]
    # Several old names were several keys. A list keeps each whole, commas and all.
    written = ", ".join(found.written for found in former)
    origin = ", ".join(found.origin for found in former)
    return Found([found.value for found in former], written, origin, shown=None)


def _find_libpq(environ: Mapping[str, str], findings: Findings) -> None:
    names = ", ".join(name for name in _LIBPQ if environ.get(name))
    if names:
        findings.values["database.from_libpq"] = Found(
            value=True, written=names, origin=f"environment {names}", shown=names
        )


def _strangers(environ: Mapping[str, str]) -> list[str]:
    known = {name for entry in ENTRIES for name in entry.variables} | _NOT_SETTINGS
    return [
        f"{name} is not a setting{_meant(name, known)}"
        for name in sorted(environ)
        if name.startswith(_PREFIX)
        and name not in known
        and not _of_kubernetes(name, environ[name])
    ]


def _meant(name: str, known: set[str]) -> str:
    dotted = name.removeprefix(_PREFIX).replace("__", ".").lower()
    if dotted in BY_NAME:
        return f"; its name is {BY_NAME[dotted].environment}"
    return did_you_mean(name, known, prefix=_PREFIX)


def _of_kubernetes(name: str, value: str) -> bool:
    if name.endswith("_PORT") and _KUBERNETES_PORT.match(value):
        return True
    return _KUBERNETES.fullmatch(name) is not None
