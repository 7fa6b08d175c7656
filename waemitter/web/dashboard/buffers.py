"""Windows and turns: what is being gathered, what is worked on, what failed."""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus
from typing import Final

from waemitter.web.dashboard.operations.store import OperationsStore
from waemitter.web.dashboard.visit import Answer, Done, Page, Route, Visit
from waemitter.web.problems import Problem

ROWS: Final = 50
STATUSES: Final = ("open", "processing", "failed", "completed")


class Buffers:
    def __init__(self, store: OperationsStore) -> None:
        self._store = store

    def routes(self) -> Sequence[Route]:
        return (
            Route("GET", "/buffers", self.list),
            Route("POST", "/buffers/{id:[0-9]{1,18}}/{verb:close|again}", self.change),
        )

    async def list(self, visit: Visit) -> Answer:
        status = visit.text("status")
        if status not in (None, *STATUSES):
            raise Problem(HTTPStatus.BAD_REQUEST, f"A buffer is one of {', '.join(STATUSES)}.")
        rows = await self._store.buffers(status, before=visit.whole("before"), limit=ROWS)
        return Page(
            "buffers.html",
            {
                "rows": rows,
                "further": rows[-1]["id"] if len(rows) == ROWS else None,
                "statuses": STATUSES,
                "status": status,
                "paused": not await self._store.buffers_flow(),
            },
        )

    async def change(self, visit: Visit) -> Answer:
        verb = visit.request.match_info["verb"]
        change = self._store.close_buffer if verb == "close" else self._store.redo_buffer
        count = await change(visit.id)
        return Done("/dashboard/buffers", verb, count, f"buffer {visit.id}")
