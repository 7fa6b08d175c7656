"""What a migration's file must say of itself."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.upgrading import STEPS
from waemitter.db import migration, schema
from waemitter.db.migration import MalformedMigration, parse, read

HEADER = "-- It does a thing.\n-- oldest daemon: 1\n"


def test_a_file_says_its_version_name_and_whom_it_leaves_behind() -> None:
    found = parse("0007_orders_get_a_colour.sql", "-- Colours.\n-- oldest daemon: 5\n\nselect 1;\n")
    assert (found.version, found.name, found.oldest_daemon) == (7, "orders_get_a_colour", 5)
    assert found.transactional
    assert found.sql.endswith("select 1;")


def test_one_without_a_transaction_says_so() -> None:
    assert not parse("0002_a.sql", f"{HEADER}-- transaction: none\nvacuum;").transactional


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        ("2_a.sql", HEADER, "named like"),
        ("0002-a.sql", HEADER, "named like"),
        ("0002_A.sql", HEADER, "named like"),
        ("0002_a.sql", "select 1;", "oldest daemon"),
        ("0002_a.sql", "-- oldest daemon: 3", "no daemon"),
        ("0002_a.sql", "-- oldest daemon: 0", "no daemon"),
    ],
)
def test_what_is_no_migration_is_named(name: str, text: str, complaint: str) -> None:
    with pytest.raises(MalformedMigration, match=complaint):
        parse(name, text)


@pytest.mark.parametrize(
    "names", [["0003_a.sql"], ["0002_a.sql", "0002_b.sql"], ["0002_a.sql", "0004_b.sql"]]
)
def test_no_number_is_left_out_or_used_twice(tmp_path: Path, names: list[str]) -> None:
    for name in names:
        (tmp_path / name).write_text(HEADER)
    with pytest.raises(MalformedMigration, match="is missing, or there twice"):
        read(tmp_path)


def test_they_are_read_in_order() -> None:
    assert [step.version for step in read(STEPS)] == [2, 3, 4]


def test_the_package_s_own_lead_to_the_version_that_schema_sql_says() -> None:
    text = schema.text()
    counted = [step.version for step in migration.packaged()]
    assert counted == [*range(migration.FIRST, schema.VERSION + 1)]
    assert f"as 'select {schema.VERSION}';" in text
    assert f"from generate_series(1, {schema.VERSION}) n" in text
    rows = text.partition("insert into waemitter.schema_migrations")[2].partition("on conflict")[0]
    recorded = [
        (int(v), name, int(d)) for v, name, d in re.findall(r"\((\d+), '(\w+)', (\d+)\)", rows)
    ]
    ours = [(step.version, step.name, step.oldest_daemon) for step in migration.packaged()]
    assert recorded == [(1, "initial", 1), *ours]
