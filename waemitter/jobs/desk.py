"""Where jobs are asked for by hand: what there is, and run one now."""

from __future__ import annotations

import asyncio
from typing import Final

from waemitter.jobs.store import JobRow, JobStore, Run

FIRST_LOOK: Final = 0.02  # seconds
LONGEST_PAUSE: Final = 0.5


class JobDesk:
    def __init__(self, store: JobStore) -> None:
        self._store = store

    async def list(self) -> list[JobRow]:
        return await self._store.list()

    async def run(self, name: str, *, within: float) -> Run:
        """Have any daemon run it now, and wait up to `within` seconds for its end.

        The run that is returned may still be `starting` (no daemon is there, or one run is going on) or `running`.
        Raises NotFound, DatabaseUnreachable.
        """
        run_id = await self._store.request(name)
        pause = FIRST_LOOK
        waited = 0.0
        while True:
            run = await self._store.run(run_id)
            if run is None or run.status in {"succeeded", "failed"} or waited >= within:
                return run or Run(run_id, name, "failed", None, "the run was deleted")
            await asyncio.sleep(pause)
            waited += pause
            pause = min(pause * 2, LONGEST_PAUSE)
