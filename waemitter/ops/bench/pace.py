"""Whether a limit is kept, and used."""

from __future__ import annotations

from dataclasses import dataclass

from waemitter.ops.bench.cloud import Cloud
from waemitter.ops.bench.site import Site, patience


@dataclass(frozen=True, slots=True)
class Paced:
    """`peak`: the most requests that arrived in any sliding second; `used`: the share of the limit that was used."""

    seconds: float
    peak: int
    used: float


async def pace(site: Site, cloud: Cloud, *, limit: float, seconds: float) -> Paced:
    """Give a daemon, whose channel has this limit, work for a little more than so many seconds."""
    await site.store.clear()
    await cloud.reset()
    messages = int(limit * seconds)
    await site.store.enqueue(1, messages)
    await cloud.wait(messages, within=patience(messages))
    await site.settled()
    arrived = await cloud.report()
    took = arrived.last - arrived.first
    return Paced(took, arrived.peak_per_second, (arrived.posts - 1) / took / limit)
