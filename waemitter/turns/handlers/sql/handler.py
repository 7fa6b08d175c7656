"""A turn goes to a function in the database, from jsonb to jsonb."""

from __future__ import annotations

from typing import Any, Protocol

from typing_extensions import override

from waemitter.errors import DatabaseUnreachable, PayloadError
from waemitter.turns.answers import parse_answer
from waemitter.turns.turn import Answer, Handler, HandlerFailed, Turn


class Calls(Protocol):
    """Who speaks to Postgres."""

    async def answer(self, function: str, turn: dict[str, Any], *, timeout: float) -> Any:
        """Raises HandlerFailed, or DatabaseUnreachable."""
        ...


class Sql(Handler):
    """Calls `schema.function(jsonb)`, in a transaction of its own. It answers what an HTTP service may answer, or NULL."""

    def __init__(self, calls: Calls, *, function: str, timeout: float, service: str | None) -> None:
        """`timeout` in seconds."""
        self._calls = calls
        self._function = function
        self._timeout = timeout
        self._service = service

    @override
    async def handle(self, turn: Turn) -> Answer:
        try:
            document = await self._calls.answer(self._function, turn.plain(), timeout=self._timeout)
            return parse_answer(document, before=turn.session, service=self._service)
        except DatabaseUnreachable:
            raise HandlerFailed("the database does not answer", retry=True) from None
        except PayloadError as error:
            raise HandlerFailed(f"the function's answer: {error}", retry=False) from None
