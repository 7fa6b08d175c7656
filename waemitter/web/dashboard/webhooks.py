"""The journal of webhooks: what came, whether it was worked on, and the same once more."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from http import HTTPStatus
from typing import Final

import orjson

from waemitter.errors import NotFound
from waemitter.inbox.journal.store import Chosen, ReplayStore
from waemitter.web.dashboard.records.store import RecordStore
from waemitter.web.dashboard.visit import Answer, Done, Page, Route, Visit
from waemitter.web.problems import Problem

ROWS: Final = 50
STATES: Final = ("waiting", "processed", "failed")


class Webhooks:
    def __init__(
        self,
        journal: ReplayStore,
        records: RecordStore,
        *,
        knock: Callable[[], Awaitable[int | None]],
    ) -> None:
        """`knock` posts an empty webhook, signed, to our own address and gives the answer's status; None: it cannot sign."""
        self._journal = journal
        self._records = records
        self._knock = knock

    def routes(self) -> Sequence[Route]:
        return (
            Route("GET", "/webhooks", self.list),
            Route("POST", "/webhooks/test", self.test),
            Route("GET", "/webhooks/{id:[0-9]{1,18}}", self.show),
            Route("POST", "/webhooks/{id:[0-9]{1,18}}/replay", self.replay),
        )

    async def list(self, visit: Visit) -> Answer:
        state = visit.text("state")
        if state not in (None, *STATES):
            raise Problem(HTTPStatus.BAD_REQUEST, f"A webhook is one of {', '.join(STATES)}.")
        rows = await self._records.webhooks(state, before=visit.whole("before"), limit=ROWS)
        further = rows[-1]["id"] if len(rows) == ROWS else None
        return Page(
            "webhooks.html", {"rows": rows, "further": further, "states": STATES, "state": state}
        )

    async def show(self, visit: Visit) -> Answer:
        row = await self._journal.get(visit.id)
        if row is None:
            raise NotFound(f"there is no webhook {visit.id} in the journal")
        revealed = visit.acts and visit.text("show") == "1"
        return Page(
            "webhook.html",
            {"row": row, "revealed": revealed, "body": readable(row["body"]) if revealed else None},
        )

    async def test(self, _: Visit) -> Answer:
        status = await self._knock()
        if status is None:
            raise Problem(
                HTTPStatus.CONFLICT, "No app secret is set: set WHATSAPP_APP_SECRET to sign a test."
            )
        return Done("/dashboard/webhooks", "test", status, "an empty webhook")

    async def replay(self, visit: Visit) -> Answer:
        replayed = await self._journal.replay(Chosen(ids=[visit.id]), after=0, limit=1)
        return Done(
            f"/dashboard/webhooks/{visit.id}", "replay", len(replayed), f"webhook {visit.id}"
        )


def readable(body: bytes) -> str:
    """Indented, when it is JSON; else as text."""
    try:
        return orjson.dumps(orjson.loads(body), option=orjson.OPT_INDENT_2).decode()
    except orjson.JSONDecodeError:
        return body.decode(errors="replace")
