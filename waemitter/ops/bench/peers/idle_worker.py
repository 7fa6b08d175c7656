"""How long a job lies before an idle graphile-worker has it on the wire: the quickest of the peers at that."""

from __future__ import annotations

import asyncio

from waemitter.ops.bench.cloud import Cloud
from waemitter.ops.bench.peers.node_worker import READY_WITHIN, node_worker
from waemitter.ops.bench.peers.store import PeerStore, open_peer_pool
from waemitter.ops.bench.peers.work import Given
from waemitter.ops.bench.pickup import PickedUp, one_by_one
from waemitter.ops.bench.site import Site

CONNECTIONS = 10


async def peer_pickup(site: Site, cloud: Cloud, messages: int) -> PickedUp:
    """A job whose task POSTs it, one after the other; the wamid is not even stored."""
    given = Given(
        dsn=site.stage.dsn,
        url=cloud.graph_url,
        messages=0,
        connections=CONNECTIONS,
        together=False,
    )
    async with (
        open_peer_pool(given.dsn, size=1) as pool,
        node_worker("graphile_worker.mjs", given) as worker,
    ):
        async with asyncio.timeout(READY_WITHIN):
            await worker.event("PEER_READY")
        return await one_by_one(cloud, messages, PeerStore(pool).add_job)
