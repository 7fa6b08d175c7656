"""The outbox: found by filters that are in the address, retried and cancelled one by one or all together."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from http import HTTPStatus
from typing import Any, Final, Literal

import orjson

from waemitter.errors import NotFound
from waemitter.outbox.store import OutboxStore
from waemitter.web.dashboard.store import WINDOW, DashboardStore, Filter
from waemitter.web.dashboard.visit import DIGITS, Answer, Done, Page, Route, Visit, link
from waemitter.web.dashboard.words import cut
from waemitter.web.problems import Problem

ROWS: Final = 50
BATCH: Final = 500
"""Rows that one statement of a batch changes."""
LONGEST: Final = 20.0
"""Seconds for a batch; what it has not reached then is told, and can be asked for again."""
STATUSES: Final = (
    *("queued", "sending", "unconfirmed", "sent", "delivered", "read"),
    *("failed", "expired", "suppressed", "cancelled"),
)
CHANGES: Final = {
    "retry": ("failed", "expired", "suppressed", "cancelled", "unconfirmed"),
    "cancel": ("queued", "unconfirmed"),
}
Verb = Literal["retry", "cancel"]


class Outbox:
    def __init__(
        self, store: DashboardStore, outbox: OutboxStore, *, ring: Callable[[], None]
    ) -> None:
        """`ring` wakes the senders."""
        self._store = store
        self._outbox = outbox
        self._ring = ring

    def routes(self) -> Sequence[Route]:
        return (
            Route("GET", "/outbox", self.list),
            Route("GET", "/outbox/batch", self.ask),
            Route("POST", "/outbox/batch", self.batch),
            Route("GET", "/outbox/{id:[0-9]{1,18}}", self.show),
            Route("POST", "/outbox/{id:[0-9]{1,18}}/{verb:retry|cancel}", self.change),
        )

    async def list(self, visit: Visit) -> Answer:
        sought = visit.text("q")
        if sought and (found := await self._exactly(sought)):
            return await self._shown(visit, found)
        chosen = chosen_by(visit)
        found_rows = await self._store.messages(chosen, limit=ROWS, before=visit.whole("before"))
        return Page(
            "outbox.html",
            {
                "rows": found_rows.rows,
                "further": found_rows.further,
                "full": len(found_rows.rows) == ROWS,
                "window": WINDOW,
                "statuses": STATUSES,
                "channels": [row["name"] for row in await self._store.channels()],
                "changes": [
                    verb
                    for verb, those in CHANGES.items()
                    if not chosen.status or chosen.status in those
                ],
                **parameters(visit),
            },
        )

    async def show(self, visit: Visit) -> Answer:
        return await self._shown(visit, visit.id)

    async def ask(self, visit: Visit) -> Answer:
        """Before all that match are changed: what that means, and how many they are."""
        verb = verb_of(visit.text("verb"))
        found = await self._store.messages(chosen_by(visit), limit=WINDOW)
        able = [row for row in found.rows if row["status"] in CHANGES[verb]]
        return Page(
            "batch.html",
            {
                "verb": verb,
                "matching": len(able),
                "more": found.further is not None,
                "samples": able[:5],
                **parameters(visit),
            },
        )

    async def batch(self, visit: Visit) -> Answer:
        verb, chosen = verb_of(visit.text("verb")), chosen_by(visit)
        change, changed, before = self._verb(verb), 0, None
        until = time.monotonic() + LONGEST
        while time.monotonic() < until:
            found = await self._store.messages(chosen, limit=BATCH, before=before)
            ids = [row["id"] for row in found.rows if row["status"] in CHANGES[verb]]
            changed += len(await change(ids)) if ids else 0
            before = found.further
            if before is None:
                break
        await self._changed(verb)
        told = parameters(visit)
        target = " ".join(
            f"{name}={value}" for name, value in told.items() if value and name != "q"
        )
        return Done(link("/dashboard/outbox", **told), verb, changed, target or "all")

    async def change(self, visit: Visit) -> Answer:
        verb = verb_of(visit.request.match_info["verb"])
        changed = await self._verb(verb)([visit.id])
        await self._changed(verb)
        return Done(f"/dashboard/outbox/{visit.id}", verb, len(changed), str(visit.id))

    def _verb(self, verb: Verb) -> Callable[[Sequence[int]], Awaitable[Sequence[int]]]:
        return self._outbox.retry if verb == "retry" else self._outbox.cancel

    async def _changed(self, verb: Verb) -> None:
        if verb == "retry":
            self._ring()
        await self._store.tell()

    async def _exactly(self, sought: str) -> int | None:
        if sought.isascii() and sought.isdigit() and len(sought) <= DIGITS:
            return int(sought)
        return await self._store.by_wamid(sought) if sought.startswith("wamid.") else None

    async def _shown(self, visit: Visit, message_id: int) -> Page:
        found = await self._outbox.get(message_id)
        if found is None:
            raise NotFound(f"there is no message {message_id}")
        row, events = found
        revealed = visit.acts and visit.text("show") == "1"
        return Page(
            "message.html",
            {
                "row": row,
                "timeline": timeline(row, events),
                "revealed": revealed,
                "payload": orjson.dumps(
                    orjson.loads(row["payload"]), option=orjson.OPT_INDENT_2
                ).decode()
                if revealed
                else None,
                "verbs": [verb for verb, those in CHANGES.items() if row["status"] in those],
            },
        )


def timeline(row: dict[str, Any], events: Sequence[dict[str, Any]]) -> Sequence[dict[str, Any]]:
    """From the enqueue on, in the order of time; what the row itself tells and what its audit tells."""
    steps = [{"at": row["created_at"], "what": "queued", "detail": f"by {row['enqueued_by']}"}]
    for event in events:
        detail = event["detail"]
        steps.append(
            {
                "at": event["at"],
                "what": event["to_status"],
                "detail": cut(detail and str(detail), 200),
            }
        )
    if row["failed_at"] and not any(step["what"] == row["status"] for step in steps):
        detail = " ".join(str(part) for part in (row["error_code"], row["error_message"]) if part)
        steps.append({"at": row["failed_at"], "what": row["status"], "detail": detail})
    return sorted(steps, key=lambda step: step["at"])


def parameters(visit: Visit) -> dict[str, Any]:
    """The filters as they stand in the address."""
    return {name: visit.text(name) for name in ("status", "channel", "campaign", "code", "q")}


def chosen_by(visit: Visit) -> Filter:
    status = visit.text("status")
    if status is not None and status not in STATUSES:
        raise Problem(HTTPStatus.BAD_REQUEST, f"A status is one of {', '.join(STATUSES)}.")
    code = visit.whole("code")
    if code is not None and code >= 2**31:
        raise Problem(HTTPStatus.BAD_REQUEST, "An error code has at most nine digits.")
    return Filter(status, visit.text("channel"), visit.whole("campaign"), code, visit.text("q"))


def verb_of(word: str | None) -> Verb:
    if word == "retry":
        return "retry"
    if word == "cancel":
        return "cancel"
    raise Problem(HTTPStatus.BAD_REQUEST, "A batch is a retry or a cancel.")
