"""What runs on the clock: when, how it went, and once more by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import orjson

from waemitter.web.api.jobs import JobFacts
from waemitter.web.dashboard.operations.store import OperationsStore
from waemitter.web.dashboard.store import DashboardStore
from waemitter.web.dashboard.visit import Answer, Done, Page, Route, Visit


class JobBook(Protocol):
    """The schedules."""

    async def list(self) -> Sequence[JobFacts]: ...

    async def request(self, name: str) -> int:
        """Have any daemon run it now. Raises NotFound."""
        ...

    async def enable(self, name: str, *, enabled: bool) -> None:
        """Raises NotFound."""
        ...


class Jobs:
    def __init__(self, book: JobBook, store: OperationsStore, viewers: DashboardStore) -> None:
        self._book = book
        self._store = store
        self._viewers = viewers

    def routes(self) -> Sequence[Route]:
        name = "{name:[a-z0-9][a-z0-9-]{0,62}}"
        return (
            Route("GET", "/jobs", self.list),
            Route("POST", f"/jobs/{name}/{{verb:run|enable|disable}}", self.change),
        )

    async def list(self, _: Visit) -> Answer:
        runs = [row | {"summary": told(row["summary"])} for row in await self._store.runs()]
        return Page("jobs.html", {"rows": await self._book.list(), "runs": runs})

    async def change(self, visit: Visit) -> Answer:
        name, verb = visit.request.match_info["name"], visit.request.match_info["verb"]
        if verb == "run":
            await self._book.request(name)
        else:
            await self._book.enable(name, enabled=verb == "enable")
        await self._viewers.tell()
        return Done("/dashboard/jobs", verb, 1, f"job {name}")


def told(summary: str | None) -> str:
    """The figures of a run's summary in a line; `success` and its time are told elsewhere."""
    document: Any = orjson.loads(summary) if summary else None
    if not isinstance(document, dict):
        return ""
    parts = []
    for key, value in document.items():
        if isinstance(value, dict):
            parts += [f"{key} {name} {each}" for name, each in value.items() if _counts(each)]
        elif _counts(value) and key != "durationMs":
            parts.append(f"{key} {value}")
    return ", ".join(parts)


def _counts(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
