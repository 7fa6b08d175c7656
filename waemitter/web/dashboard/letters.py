"""Dead letters: what could not be sent or handled, looked into and done again, or put aside."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import Final

import orjson

from waemitter.errors import NotFound
from waemitter.outbox.letters.store import Chosen, LetterStore
from waemitter.web.dashboard.visit import Answer, Done, Page, Route, Visit
from waemitter.web.problems import Problem

ROWS: Final = 50
STATUSES: Final = ("pending", "abandoned", "resolved", "discarded")
DIRECTIONS: Final = ("inbound", "outbound")


class Letters:
    def __init__(self, letters: LetterStore, *, ring: Callable[[], None]) -> None:
        self._letters = letters
        self._ring = ring

    def routes(self) -> Sequence[Route]:
        return (
            Route("GET", "/letters", self.list),
            Route("GET", "/letters/{id:[0-9]{1,18}}", self.show),
            Route("POST", "/letters/{id:[0-9]{1,18}}/{verb:redrive|discard}", self.change),
        )

    async def list(self, visit: Visit) -> Answer:
        status, direction = visit.text("status"), visit.text("direction")
        if status not in (None, *STATUSES) or direction not in (None, *DIRECTIONS):
            raise Problem(HTTPStatus.BAD_REQUEST, "There are no dead letters of that kind.")
        chosen = Chosen(direction=direction, status=status)
        rows = await self._letters.list(chosen, limit=ROWS, before=visit.whole("before"))
        return Page(
            "letters.html",
            {
                "rows": rows,
                "further": rows[-1]["id"] if len(rows) == ROWS else None,
                "statuses": STATUSES,
                "directions": DIRECTIONS,
                "status": status,
                "direction": direction,
            },
        )

    async def show(self, visit: Visit) -> Answer:
        row = await self._letters.get(visit.id)
        if row is None:
            raise NotFound(f"there is no dead letter {visit.id}")
        revealed = visit.acts and visit.text("show") == "1"
        payload = orjson.dumps(orjson.loads(row["payload"]), option=orjson.OPT_INDENT_2).decode()
        return Page(
            "letter.html",
            {
                "row": row,
                "revealed": revealed,
                "payload": payload if revealed else None,
                "open": row["resolution_status"] in {"pending", "abandoned"},
            },
        )

    async def change(self, visit: Visit) -> Answer:
        verb = visit.request.match_info["verb"]
        change = self._letters.retry if verb == "redrive" else self._letters.discard
        changed = await change([visit.id])
        self._ring()
        return Done(f"/dashboard/letters/{visit.id}", verb, len(changed), f"dead letter {visit.id}")
