"""A release of the future, for the tests of upgrades: this schema, with a table of its own that changes over three versions."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Final

from waemitter.db import migration, schema
from waemitter.db.schema import Release

FIXTURES: Final = Path(__file__).parent / "parcels"
STEPS: Final = FIXTURES / "migrations"
ROLES: Final = "-- Roles and row level security."
"""The heading of what comes last: it goes over all tables."""


def older() -> Release:
    """What is in the database before: this release's schema, with the older table."""
    return Release(version=schema.VERSION, sql=_with("older.sql", version=1), migrations=())


def newer(version: int = 4) -> Release:
    """Version 4, or an upgrade that stops on the way there, with the older table's functions."""
    steps = migration.read(STEPS)[: version - 1]
    return Release(version=version, sql=_with(_sql(version), version=version), migrations=steps)


def broken(release: Release, version: int, sql: str) -> Release:
    """A release one of whose migrations has another text."""
    steps = [
        replace(step, sql=sql) if step.version == version else step for step in release.migrations
    ]
    return replace(release, migrations=steps)


def _sql(version: int) -> str:
    return "newer.sql" if version == len(migration.read(STEPS)) + 1 else "older.sql"


def _with(name: str, *, version: int) -> str:
    assert schema.VERSION == 1, "number the fixtures anew: they begin behind this release's version"
    before, heading, after = schema.text().rpartition(ROLES)
    assert heading
    rows = ",\n  ".join(
        f"({step.version}, '{step.name}', {step.oldest_daemon})"
        for step in migration.read(STEPS)[: version - 1]
    )
    whole = before + (FIXTURES / name).read_text() + heading + after
    whole = re.sub(r"as 'select 1';", f"as 'select {version}';", whole, count=1)
    whole = re.sub(r"generate_series\(1, 1\) n", f"generate_series(1, {version}) n", whole, count=1)
    initial = "values (1, 'initial', 1)"
    assert initial in whole
    return whole.replace(initial, f"{initial},\n  {rows}" if rows else initial, 1)
