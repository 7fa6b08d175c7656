"""What the triggers cost the application that inserts, measured with Postgres' own pgbench."""

from __future__ import annotations

import asyncio
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from waemitter.ops.bench.cloud import BenchFailed, Cloud
from waemitter.ops.bench.site import Site, patience

SCRIPT: Final = """
\\set n random(1, 9999999)
insert into waemitter.outbox_messages (recipient, message_type, payload)
values ('+1415' || lpad((:n)::text, 7, '0'), 'text', '{"text": {"body": "%s"}}');
""" % ("Your order has left our house and will be with you on Tuesday. " * 6)
RATE: Final = re.compile(r"^tps = ([\d.]+)", re.MULTILINE)
# Messages that the daemon sends first: it is then on patrol, as under any lasting load.
STEADY: Final = 80


@dataclass(frozen=True, slots=True)
class Inserted:
    """Single-row commits a second, with the triggers and without."""

    clients: int
    with_triggers: float
    without: float


async def inserts(site: Site, cloud: Cloud, *, clients: int, seconds: int) -> Inserted:
    """Insert as fast as `clients` connections can, while the daemon drains at its limit."""
    rates = [
        await _inserts(site, cloud, clients=clients, seconds=seconds, triggers=triggers)
        for triggers in (False, True)
    ]
    return Inserted(clients, with_triggers=rates[1], without=rates[0])


async def _inserts(
    site: Site, cloud: Cloud, *, clients: int, seconds: int, triggers: bool
) -> float:
    await site.store.clear()
    await cloud.reset()
    await site.store.enqueue(1, STEADY * 2)
    await cloud.wait(STEADY, within=patience(STEADY))
    await site.store.set_triggers(on=triggers)
    try:
        return await _pgbench(site, clients=clients, seconds=seconds)
    finally:
        await site.store.set_triggers(on=True)
        await site.store.clear()


async def _pgbench(site: Site, *, clients: int, seconds: int) -> float:
    script = site.directory / "insert.sql"
    script.write_text(SCRIPT)
    arguments = ("--no-vacuum", "--protocol=prepared", f"--client={clients}", f"--time={seconds}")
    process = await asyncio.create_subprocess_exec(
        *(_pgbench_program(site), *arguments, f"--file={script}", site.stage.dsn),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={**os.environ, "PGOPTIONS": "-c log_statement=none"},
    )
    told = (await process.communicate())[0].decode(errors="replace")
    rate = RATE.search(told)
    if rate is None:
        raise BenchFailed(f"pgbench said:\n{told}")
    return float(rate[1])


def _pgbench_program(site: Site) -> Path:
    return site.binaries() / "pgbench"
