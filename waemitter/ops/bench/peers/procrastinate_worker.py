"""procrastinate, with its asynchronous worker and as much concurrency as there are connections."""

from __future__ import annotations

from typing import Final

from procrastinate import App, PsycopgConnector
from procrastinate.types import JSONDict

from waemitter.ops.bench.peers.store import SETTINGS
from waemitter.ops.bench.peers.work import Given, main, working

POOL: Final = 10
OPTIONS: Final = " ".join(f"-c {name}={value}" for name, value in SETTINGS.items())


async def drain(given: Given) -> dict[str, float]:
    """Seconds and CPU, from the start of the worker to the last stored wamid."""
    async with working(given, pool_size=POOL) as (_, work, jobs):
        app = App(
            connector=PsycopgConnector(
                conninfo=given.dsn, kwargs={"options": OPTIONS}, min_size=POOL, max_size=POOL
            )
        )
        async with app.open_async():
            await app.schema_manager.apply_schema_async()

            @app.task(name="send")
            async def send(row: int, body: str) -> None:
                await work(row, body)

            deferred: list[JSONDict] = [{"row": row, "body": body} for row, body in jobs]
            await send.batch_defer_async(*deferred)
            await work.begin()
            await app.run_worker_async(
                concurrency=given.connections, wait=False, install_signal_handlers=False
            )
    return work.told


if __name__ == "__main__":
    main(drain)
