"""Calls that come at the same time share one statement: what comes while one is on its way goes with the next.

Nobody waits for company: a call that comes alone leaves alone, at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, Generic, TypeVar

from waemitter.errors import DatabaseUnreachable

Asked = TypeVar("Asked")
Answer = TypeVar("Answer")

LARGEST: Final = 100


class Together(Generic[Asked, Answer]):
    """`ask(several)` gives an answer for each, in their order. Raises what `ask` does.

    `largest`: as many share a statement. `beside`: when as many wait, a second statement goes beside the one on its way.
    """

    def __init__(
        self,
        ask: Callable[[Sequence[Asked]], Awaitable[Sequence[Answer]]],
        *,
        largest: int = LARGEST,
        beside: int | None = None,
    ) -> None:
        self._ask = ask
        self._largest = largest
        self._beside = beside
        self._waiting: list[tuple[Asked, asyncio.Future[Answer]]] = []
        self._asking: set[asyncio.Task[None]] = set()

    async def __call__(self, asked: Asked) -> Answer:
        """A caller that is cancelled before its turn has asked nothing; later the others have their answer all the same."""
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append((asked, answer))
        if not self._asking or self._is_slow():
            self._asking.add(asyncio.get_running_loop().create_task(self._ask_all()))
        return await answer

    def _is_slow(self) -> bool:
        return (
            self._beside is not None
            and len(self._asking) == 1
            and len(self._waiting) >= self._beside
        )

    async def _ask_all(self) -> None:
        batch: list[tuple[Asked, asyncio.Future[Answer]]] = []
        try:
            while self._waiting:
                batch = [each for each in self._waiting[: self._largest] if not each[1].done()]
                del self._waiting[: self._largest]
                if batch:
                    await self._answer(batch)
        except asyncio.CancelledError:
            for _, future in (*batch, *self._waiting):
                future.cancel()
            self._waiting.clear()
            raise
        finally:  # at once: whoever is answered may ask again before this task's end is known
            self._asking.discard(asyncio.current_task())

    async def _answer(self, batch: Sequence[tuple[Asked, asyncio.Future[Answer]]]) -> None:
        try:
            answers = await self._ask([asked for asked, _ in batch])
            answered = list(zip(batch, answers, strict=True))
        except Exception as error:  # noqa: BLE001 each caller is told
            if len(batch) > 1 and not isinstance(error, DatabaseUnreachable):
                for one in batch:  # what one of them has, the others shall not suffer from
                    await self._answer([one])
                return
            for _, future in batch:
                if not future.done():
                    future.set_exception(error)
            return
        for (_, future), answer in answered:
            if not future.done():
                future.set_result(answer)


def columns(rows: Sequence[tuple[Any, ...]]) -> Sequence[list[Any]]:
    """Turn rows into arrays, as unnest() takes them."""
    return [list(column) for column in zip(*rows, strict=True)]
