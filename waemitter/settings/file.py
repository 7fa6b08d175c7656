"""Settings from waemitter.toml: its tables are the groups, its keys the names within."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from waemitter.settings.catalogue import BY_NAME, ENTRIES, TABLES, Entry, did_you_mean
from waemitter.settings.findings import Findings, Found

DEFAULT_PATH: Final = Path("waemitter.toml")

# Kept as written; the channels' own keys are checked where channels are resolved.
_COLLECTIONS: Final = ("channels", "routes", "agents", "events")
_NAMED: Final = frozenset({"agents", "events"})
"""Written [agents.<name>], not [[agents]]."""


def find_file(config: Path | None, environ: Mapping[str, str]) -> Path | None:
    """Choose the file: the one that was named, else the one in the working directory."""
    if config is not None:
        return config
    if named := environ.get("WAEMITTER_CONFIG"):
        return Path(named)
    return DEFAULT_PATH if DEFAULT_PATH.is_file() else None


def read_file(path: Path, findings: Findings) -> Mapping[str, Any]:
    """Add the file's settings to the findings; give back its channels, routes, agents and subscriptions."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        findings.problems.append(f"{path}: {(error.strerror or 'unreadable').lower()}")
        return {}
    except ValueError as error:
        findings.problems.append(f"{path} is not valid TOML: {error}")
        return {}
    collections: dict[str, Any] = {}
    for key, value in document.items():
        if key in _COLLECTIONS:
            collections[key] = value
        elif key in TABLES:
            _read_table(path, key, value, findings)
        elif key in BY_NAME:
            _keep(path, BY_NAME[key], value, findings)
        else:
            known = [*TABLES, *_COLLECTIONS, *(each.name for each in ENTRIES if not each.table)]
            what = f"table [{key}]" if isinstance(value, dict | list) else f"key '{key}'"
            findings.problems.append(f"{path}: unknown {what}{did_you_mean(key, known)}")
    findings.problems += _malformed(path, collections)
    return {key: value for key, value in collections.items() if _well_formed(key, value)}


def _read_table(path: Path, table: str, value: object, findings: Findings) -> None:
    if not isinstance(value, dict):
        findings.problems.append(f"{path}: '{table}' must be a table, written [{table}]")
        return
    entries = {each.key: each for each in ENTRIES if each.table == table}
    for key, given in value.items():
        secret = entries.get(key.removesuffix("_file"))
        if key in entries:
            _keep(path, entries[key], given, findings)
        elif secret is not None and secret.secret:
            _keep_secret(path, secret, given, findings)
        else:
            hint = did_you_mean(key, entries)
            findings.problems.append(f"{path}: [{table}] has no key '{key}'{hint}")
    both = [key for key in value if f"{key}_file" in value and key in entries]
    findings.problems += [
        f"{path}: {table}.{key} and {table}.{key}_file are both set; keep one" for key in both
    ]


def _keep(path: Path, entry: Entry, value: object, findings: Findings) -> None:
    written = f"{path}: {entry.name}"
    findings.values[entry.name] = Found(value, written, origin=str(path), shown=value)


def _keep_secret(path: Path, entry: Entry, value: object, findings: Findings) -> None:
    written = f"{path}: {entry.name}_file"
    # Beside the file that names it, wherever the daemon is started from.
    file = path.parent / str(value)
    secret = findings.read_secret(file, written=written)
    if secret is not None:
        findings.values[entry.name] = Found(secret, written, f"file {file} ({path})", shown=None)


def _well_formed(key: str, value: Any) -> bool:
    if not isinstance(value, dict if key in _NAMED else list):
        return False
    items = value.values() if isinstance(value, dict) else value
    return all(isinstance(item, dict) for item in items)


def _malformed(path: Path, collections: Mapping[str, object]) -> Iterator[str]:
    for key, value in collections.items():
        if not _well_formed(key, value):
            form = f"[{key}.<name>]" if key in _NAMED else f"[[{key}]]"
            yield f"{path}: '{key}' must be tables, each written {form}"
