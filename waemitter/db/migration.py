"""Migrations: the numbered files of migrations/, and what they say of themselves.

The README there tells when one is due and how it is written; `waemitter.db.schema` runs them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Final

_FILE: Final = re.compile(r"(\d{4})_([a-z0-9_]+)\.sql")
_OLDEST: Final = re.compile(r"^-- oldest daemon: (\d+)$", re.MULTILINE)
_APART: Final = re.compile(r"^-- transaction: none$", re.MULTILINE)

FIRST: Final = 2
"""Version 1 is schema.sql as it was first released, and has no file."""

_RECORDED: Final = (
    "insert into waemitter.schema_migrations (version, name, oldest_daemon) values ({}, '{}', {});"
)


class MalformedMigration(Exception):
    """A file that cannot be a migration; the message names it, and what is wrong with it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    """One step from a version of the schema to the next.

    `oldest_daemon`: the least schema version that a daemon may have been made for which goes on beside it.
    `transactional`: False for a single statement that cannot be in a transaction.
    """

    version: int
    name: str
    oldest_daemon: int
    transactional: bool
    sql: str

    def script(self) -> str:
        """It as psql takes it, with its row in schema_migrations."""
        recorded = _RECORDED.format(self.version, self.name, self.oldest_daemon)
        if self.transactional:
            return f"begin;\n{recorded}\n{self.sql}\ncommit;\n"
        return f"{self.sql}\n{recorded}\n"


def packaged() -> tuple[Migration, ...]:
    """Those of this release, the oldest first."""
    return read(files("waemitter.db").joinpath("migrations"))


def read(directory: Traversable) -> tuple[Migration, ...]:
    """Read the migrations of a directory, the oldest first. Raises MalformedMigration."""
    named = ((file.name, file) for file in directory.iterdir() if file.name.endswith(".sql"))
    return _consecutive(parse(name, file.read_text(encoding="utf-8")) for name, file in named)


def parse(file_name: str, sql: str) -> Migration:
    """Raises MalformedMigration."""
    found = _FILE.fullmatch(file_name)
    if found is None:
        raise MalformedMigration(f"{file_name}: a migration is named like 0002_what_it_does.sql")
    oldest = _OLDEST.search(sql)
    if oldest is None:
        raise MalformedMigration(f"{file_name}: a line such as `-- oldest daemon: 1` is missing")
    version = int(found[1])
    if not 1 <= int(oldest[1]) <= version:
        raise MalformedMigration(f"{file_name}: no daemon is of schema version {oldest[1]} yet")
    return Migration(
        version=version,
        name=found[2],
        oldest_daemon=int(oldest[1]),
        transactional=_APART.search(sql) is None,
        sql=sql.strip(),
    )


def _consecutive(found: Iterable[Migration]) -> tuple[Migration, ...]:
    ordered = tuple(sorted(found, key=lambda migration: migration.version))
    return tuple(_counted(ordered))


def _counted(ordered: Iterable[Migration]) -> Iterator[Migration]:
    for expected, migration in enumerate(ordered, start=FIRST):
        if migration.version != expected:
            raise MalformedMigration(
                f"{migration.version:04}_{migration.name}.sql: {expected:04} is missing, or there twice"
            )
        yield migration
