"""Conversations: who holds one, until when we may write freely, and what was said."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import Any, Final

import orjson

from waemitter.errors import NotFound
from waemitter.web.dashboard.records.store import RecordStore
from waemitter.web.dashboard.visit import Answer, Done, Page, Route, Visit
from waemitter.web.problems import Problem

ROWS: Final = 50
STATUSES: Final = ("buffering", "processing", "human", "error", "idle")
WINDOW: Final = datetime.timedelta(hours=24)
"""After a customer's message, in which free-form messages are allowed (Meta's customer service window)."""


class Conversations:
    def __init__(self, records: RecordStore, *, wall: Callable[[], datetime.datetime]) -> None:
        self._records = records
        self._wall = wall

    def routes(self) -> Sequence[Route]:
        return (
            Route("GET", "/conversations", self.list),
            Route("GET", "/conversations/{id:[0-9]{1,18}}", self.show),
            Route("POST", "/conversations/{id:[0-9]{1,18}}/{verb:takeover|handback}", self.change),
        )

    async def list(self, visit: Visit) -> Answer:
        status = visit.text("status")
        if status not in (None, *STATUSES):
            raise Problem(HTTPStatus.BAD_REQUEST, f"A status is one of {', '.join(STATUSES)}.")
        rows = await self._records.conversations(status, before=visit.whole("before"), limit=ROWS)
        context = {
            "rows": [row | self._terms(row) for row in rows],
            "further": rows[-1]["id"] if len(rows) == ROWS else None,
            "statuses": STATUSES,
            "status": status,
        }
        return Page("conversations.html", context)

    async def show(self, visit: Visit) -> Answer:
        row = await self._records.conversation(visit.id)
        if row is None:
            raise NotFound(f"there is no conversation {visit.id}")
        revealed = visit.acts and visit.text("show") == "1"
        heard = [each | {"ours": each["from_us"]} for each in await self._records.heard(visit.id)]
        said = [
            each | {"ours": True}
            for each in await self._records.said(row["channel"], row["address"] or "")
            if each["at"] is not None
        ]
        thread = sorted(heard + said, key=lambda each: each["at"])[-50:]
        context = {
            "row": row | self._terms(row),
            "thread": [each | {"text": text_of(each) if revealed else None} for each in thread],
            "moves": await self._records.moves(visit.id),
            "revealed": revealed,
        }
        return Page("conversation.html", context)

    async def change(self, visit: Visit) -> Answer:
        verb = visit.request.match_info["verb"]
        count = await self._records.take_over(visit.id, human=verb == "takeover")
        path = f"/dashboard/conversations/{visit.id}"
        return Done(path, verb, count, f"conversation {visit.id}")

    def _terms(self, row: dict[str, Any]) -> dict[str, Any]:
        now, heard = self._wall(), row["last_inbound_at"]
        closes = heard + WINDOW if heard is not None else None
        return {
            "closes": closes if closes is not None and closes > now else None,
            "human": row["takeover_until"] is not None and row["takeover_until"] > now,
        }


def text_of(message: dict[str, Any]) -> str:
    """The words of a text message; of another one, its payload."""
    payload = orjson.loads(message["payload"])
    if isinstance(payload, dict) and isinstance(text := payload.get("text"), dict):
        return str(text.get("body", ""))
    return orjson.dumps(payload).decode()
