"""How fast a full queue empties: through the daemon, through the bare pipeline, and through another queue."""

from __future__ import annotations

import time
from dataclasses import dataclass

from waemitter.ops.bench.cloud import BenchFailed, Cloud
from waemitter.ops.bench.daemons import Daemon
from waemitter.ops.bench.peers.catalogue import Peer
from waemitter.ops.bench.site import Site, patience
from waemitter.ops.processes import child


@dataclass(frozen=True, slots=True)
class Drained:
    """One run.

    `rate` (messages a second) counts from the commit of the INSERT to the write of the last outcome. `lost`, `doubled`:
    messages that never arrived, or more than once. The rest for each message: the daemon's CPU in microseconds, its statements,
    and bytes of write-ahead log from claim to outcome.
    """

    messages: int
    rate: float
    lost: int
    doubled: int
    cpu_us: float
    statements: float
    wal_bytes: float


@dataclass(frozen=True, slots=True)
class Bare:
    """One run of the bare pipeline: messages a second, and microseconds of CPU for each."""

    messages: int
    rate: float
    cpu_us: float


@dataclass(frozen=True, slots=True)
class PeerDrained:
    """One run of a peer: messages a second until the last wamid was stored, and microseconds of CPU for each."""

    messages: int
    rate: float
    cpu_us: float


async def drain(site: Site, cloud: Cloud, daemon: Daemon, messages: int) -> Drained:
    """Insert so many at once, in one transaction, and wait until each has its outcome."""
    await site.store.clear()
    await cloud.reset()
    cpu, statements = daemon.meter.cpu(), site.statements_logged()
    inserted = await site.store.enqueue(1, messages)
    committed = time.time()
    await cloud.wait(messages, within=patience(messages))
    await site.settled()
    cpu = daemon.meter.cpu() - cpu
    wal = await site.store.wal_position() - inserted
    outcome = await site.store.outcome()
    arrived = await cloud.report()
    return Drained(
        messages=messages,
        rate=messages / (outcome.last_sent_at - committed),
        lost=messages - arrived.distinct,
        doubled=arrived.posts - arrived.distinct,
        cpu_us=cpu / messages * 1e6,
        statements=(site.statements_logged() - statements) / messages,
        wal_bytes=wal / messages,
    )


async def bare(site: Site, cloud: Cloud, messages: int, *, connections: int) -> Bare:
    """The same number through the bare pipeline, in a process of its own."""
    await cloud.reset()
    arguments = (
        *("-m", "waemitter.ops.bench.pipeline"),
        *("--dsn", site.stage.dsn),
        *("--url", cloud.graph_url),
        *("--messages", str(messages)),
        *("--connections", str(connections)),
    )
    async with child("the bare pipeline", arguments) as running:
        drained = await running.event("PIPELINE_DRAINED", within=patience(messages))
    return Bare(messages, messages / drained["seconds"], drained["cpu"] / messages * 1e6)


async def peer(
    site: Site, cloud: Cloud, other: Peer, *, latency: float, messages: int
) -> PeerDrained:
    """The same through a peer, in a process of its own; a slow one gets its share. Raises BenchFailed for lost messages."""
    await site.store.clear()
    await cloud.reset()
    messages = max(1, int(messages * other.share))
    connections = other.connections.get(latency) or max(other.connections.values())
    arguments = (
        *("-m", f"waemitter.ops.bench.peers.{other.module}"),
        *("--dsn", site.stage.dsn),
        *("--url", cloud.graph_url),
        *("--messages", str(messages)),
        *("--connections", str(connections)),
        *(("--together",) if other.together else ()),
    )
    async with child(other.package, arguments) as running:
        drained = await running.event("PEER_DRAINED", within=patience(messages))
    arrived = await cloud.report()
    if (arrived.posts, arrived.distinct) != (messages, messages):
        raise BenchFailed(f"{other.package}: {arrived.posts} of {messages} messages arrived")
    return PeerDrained(messages, messages / drained["seconds"], drained["cpu"] / messages * 1e6)
