"""The long programs by name, each on a site of its own."""

from __future__ import annotations

from dataclasses import asdict
from enum import StrEnum
from typing import Any

from waemitter.ops.bench.scale.backlog import backlog
from waemitter.ops.bench.scale.finished import finished
from waemitter.ops.bench.scale.snapshot import snapshot
from waemitter.ops.bench.scale.soak import soak
from waemitter.ops.bench.site import site


class Program(StrEnum):
    """What there is to see; `docs/benchmarks.md` says how each is measured."""

    BACKLOG = "backlog"
    FINISHED = "finished"
    SNAPSHOT = "snapshot"
    SOAK = "soak"


async def run_program(
    program: Program, *, rows: int, rate: float, minutes: float
) -> dict[str, Any]:
    """Run one; `rows` are those of backlog and finished, `rate` (a second) and `minutes` those of the others."""
    async with site(logged=False) as on:
        match program:
            case Program.BACKLOG:
                return asdict(await backlog(on, rows))
            case Program.FINISHED:
                return asdict(await finished(on, rows))
            case Program.SNAPSHOT:
                return asdict(await snapshot(on, rate=rate, seconds=minutes * 60))
            case Program.SOAK:
                return asdict(await soak(on, rate=rate, seconds=minutes * 60))
