"""pgqueuer, with batches of a hundred, the larger of the sizes that its documentation and its own benchmark use."""

from __future__ import annotations

import asyncio
from typing import Final

import orjson
from pgqueuer import AsyncpgPoolDriver, Queries, QueueManager
from pgqueuer.models import Job

from waemitter.ops.bench.peers.work import Given, main, working

BATCH: Final = 100
BATCH_TOGETHER: Final = 200
POOL: Final = 10
POOL_TOGETHER: Final = 2
ENTRYPOINT: Final = "send"


async def drain(given: Given) -> dict[str, float]:
    """Seconds and CPU, from the start of the worker to the last stored wamid."""
    batch = BATCH_TOGETHER if given.together else BATCH
    size = POOL_TOGETHER if given.together else POOL
    async with working(given, pool_size=size) as (pool, work, jobs):
        queries = Queries(AsyncpgPoolDriver(pool))
        await queries.install()
        await queries.enqueue(
            [ENTRYPOINT] * len(jobs), [orjson.dumps(job) for job in jobs], [0] * len(jobs)
        )
        manager = QueueManager(queries)

        @manager.entrypoint(ENTRYPOINT)
        async def send(job: Job) -> None:
            row, body = orjson.loads(job.payload or b"")
            await work(row, body)

        await work.begin()
        # It allows no fewer than two batches in hand; the connections are the limit.
        running = asyncio.create_task(
            manager.run(batch_size=batch, max_concurrent_tasks=max(2 * batch, given.connections))
        )
        await work.ended()
        manager.shutdown.set()
        await running
    return work.told


if __name__ == "__main__":
    main(drain)
