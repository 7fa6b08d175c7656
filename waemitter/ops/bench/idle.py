"""What a daemon costs that has nothing to do."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final

from waemitter.ops.bench.daemons import Daemon
from waemitter.ops.bench.site import Site

COOLING: Final = 1.0  # seconds after the start, or after work


@dataclass(frozen=True, slots=True)
class Idled:
    """`cpu` as a share of one core; memory in bytes."""

    seconds: float
    statements_per_second: float
    cpu: float
    resident: int


async def idle(site: Site, daemon: Daemon, seconds: float) -> Idled:
    """Leave it alone for so long."""
    await asyncio.sleep(COOLING)
    cpu, statements = daemon.meter.cpu(), site.statements_logged()
    await asyncio.sleep(seconds)
    return Idled(
        seconds,
        (site.statements_logged() - statements) / seconds,
        (daemon.meter.cpu() - cpu) / seconds,
        daemon.meter.resident(),
    )
