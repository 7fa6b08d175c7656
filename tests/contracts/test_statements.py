"""Every SQL statement of the house, against the schema: it parses, its names are there, its columns are a tuple's fields."""

from __future__ import annotations

import dataclasses
import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from waemitter.db import schema
from waemitter.db.pool import open_connection
from waemitter.db.schema import Connection
from waemitter.inbox.gathering.store import Gathered, GatheringStore
from waemitter.inbox.store import InboxStore, Received, Webhook
from waemitter.jobs.dead_letters.store import DueLetter, DueLetterStore
from waemitter.jobs.store import Claimed, JobRow, JobStore, Run, Unscheduled
from waemitter.ops.store import Funnel, OpsStore
from waemitter.outbox.campaigns.store import (
    Campaign,
    CampaignStore,
    Charge,
    Enqueued,
    Failure,
    Rate,
)
from waemitter.outbox.message import Attempt
from waemitter.outbox.store import ChannelState, Depth, OutboxStore, Settled

PACKAGE: Final = Path(schema.__file__).parents[1]
SPEAKERS: Final = sorted(
    {*PACKAGE.rglob("store.py"), PACKAGE / "runtime/doorbell.py", PACKAGE / "runtime/gears.py"}
)
QUERY: Final = re.compile(r"\s*(select|insert|update|delete|with)\s", re.IGNORECASE)
THEIRS: Final = re.compile(r"\bgraphile_worker\.")  # a peer of the bench brings its own schema
TABLES: Final = re.compile(r"\s*create schema\s", re.IGNORECASE)  # a bench's own, beside the schema


class Statement(NamedTuple):
    name: str
    text: str


def statements(path: Path, kind: re.Pattern[str] = QUERY) -> Iterator[Statement]:
    """The SQL constants of a module and of its classes."""
    name = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
    module = importlib.import_module(name)
    classes = [each for each in vars(module).values() if getattr(each, "__module__", "") == name]
    for owner in (module, *classes):
        for constant, value in vars(owner).items():
            if constant.isupper() and isinstance(value, str) and kind.match(value):
                yield Statement(f"{owner.__name__}.{constant}", value)


async def columns(connection: Connection, statement: str) -> list[str]:
    prepared = await connection.prepare(statement)
    return [attribute.name for attribute in prepared.get_attributes()]


@pytest.mark.parametrize("path", SPEAKERS, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_each_module_that_speaks_to_postgres_keeps_its_sql_in_constants(path: Path) -> None:
    assert list(statements(path))


async def test_every_statement_prepares_against_the_schema(any_postgres_version: str) -> None:
    faults: dict[str, str] = {}
    async with open_connection(any_postgres_version) as connection:
        await schema.apply(connection)
        for tables in (made for path in SPEAKERS for made in statements(path, TABLES)):
            await connection.execute(tables.text)
        for statement in (said for path in SPEAKERS for said in statements(path)):
            if THEIRS.search(statement.text):
                continue
            try:
                await connection.prepare(statement.text)
            except Exception as error:  # noqa: BLE001  # told all at once, each with its statement's name
                faults[statement.name] = str(error)

    assert faults == {}


@pytest.mark.parametrize(
    ("statement", "shape"),
    [
        (OutboxStore.SETTLE, Settled),
        (OutboxStore.CHANNELS, ChannelState),
        (OutboxStore.DEPTH, Depth),
        (OpsStore.FUNNEL, Funnel),
        (InboxStore.CLAIM, Webhook),
        (JobStore.CLAIM, Claimed),
        (JobStore.UNSCHEDULED, Unscheduled),
        (JobStore.LIST, JobRow),
        (JobStore.RUN, Run),
        (DueLetterStore.CLAIM, DueLetter),
        (InboxStore.RECEIVE, Received),
        (GatheringStore.GATHER, Gathered),
        (CampaignStore.GET, Campaign),
        (CampaignStore.LIST, Campaign),
        (CampaignStore.ENQUEUE, Enqueued),
        (CampaignStore.FAILURES, Failure),
        (CampaignStore.CHARGES, Charge),
        (CampaignStore.RATES, Rate),
    ],
    ids=lambda part: part.__name__ if isinstance(part, type) else "",
)
async def test_the_columns_are_the_fields_of_the_tuple_made_of_them(
    connection: Connection, statement: str, shape: type
) -> None:
    assert await columns(connection, statement) == fields(shape)


async def test_a_claims_first_columns_are_the_fields_of_an_attempt(connection: Connection) -> None:
    names = await columns(connection, OutboxStore.CLAIM)

    assert names[: len(fields(Attempt))] == fields(Attempt)
    assert set(names) >= {"clock", "next_due", "not_before", "rate", "lost", "resent", "held"}


def fields(shape: type) -> list[str]:
    if dataclasses.is_dataclass(shape):
        return [field.name for field in dataclasses.fields(shape)]
    return list(shape.__annotations__)
