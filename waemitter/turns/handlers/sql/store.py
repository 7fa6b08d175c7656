"""Functions of the application, in Postgres, that answer turns."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import asyncpg
import orjson

from waemitter.db.pool import outages
from waemitter.turns.turn import HandlerFailed

_PASSING: Final = (
    asyncpg.SerializationError,
    asyncpg.DeadlockDetectedError,
    asyncpg.LockNotAvailableError,
    asyncpg.QueryCanceledError,
)


class FunctionStore:
    def __init__(self, pool: asyncpg.Pool[asyncpg.Record]) -> None:
        self._pool = pool

    MISSING: Final = "select f from unnest($1::text[]) f where to_regprocedure(f || '(jsonb)') is null order by f"

    async def missing(self, functions: Iterable[str]) -> list[str]:
        """Those that are not there, or take no jsonb."""
        with outages():
            return [record[0] for record in await self._pool.fetch(self.MISSING, list(functions))]

    LIMIT: Final = "select set_config('statement_timeout', $1, true)"
    ANSWER: Final = "select waemitter.answer_turn(handler => $1, turn => $2)"

    async def answer(self, function: str, turn: dict[str, Any], *, timeout: float) -> Any:
        """Call it with the turn, for `timeout` seconds at the most; returns its document, None for NULL.

        Raises HandlerFailed with the SQLSTATE, since the words of an error may quote a row; DatabaseUnreachable.
        """
        try:
            with outages():
                answer = await self._call(function, turn, timeout)
        except asyncpg.PostgresError as error:
            raise HandlerFailed(_reason(function, error), retry=False) from None
        return None if answer is None else orjson.loads(answer)

    async def _call(self, function: str, turn: dict[str, Any], timeout: float) -> str | None:
        try:
            async with self._pool.acquire() as connection, connection.transaction():
                await connection.execute(self.LIMIT, f"{max(1, int(timeout * 1000))}ms")
                given = orjson.dumps(turn).decode()
                answer: str | None = await connection.fetchval(self.ANSWER, function, given)
                return answer
        except _PASSING as error:
            raise HandlerFailed(_reason(function, error), retry=True) from None


def _reason(function: str, error: asyncpg.PostgresError) -> str:
    return f"{function} failed: {type(error).__name__}, SQLSTATE {error.sqlstate}"
