"""`dlq-processor`: what could not be handled is tried again from the stage where it failed.

A retry counts when it begins, and the next one has its date by then: a letter that takes its daemon down with it is abandoned
like any other.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, Literal, TypeAlias

from waemitter.errors import DatabaseUnreachable
from waemitter.jobs.dead_letters.store import DueLetter, DueLetterStore
from waemitter.jobs.job import Summary
from waemitter.observe.events import Events

Redo: TypeAlias = Callable[[DueLetter], Awaitable[None]]
"""Do again what failed; it raises when it fails again, and may be called twice for what it did already."""

Outcome: TypeAlias = Literal["successful", "failed", "abandoned"]

AT_ONCE: Final = 4
LONGEST: Final = 60.0
"""Seconds for one letter: nobody may hold up the others."""


class UnknownStage(Exception):
    """Nobody here knows how to do again what failed there."""


class DeadLetters:
    def __init__(
        self,
        store: DueLetterStore,
        *,
        stages: Mapping[str, Redo],
        batch_size: int,
        max_retries: int,
        delays: tuple[float, ...],
        events: Events,
        clock: Callable[[], float],
    ) -> None:
        """`stages`: who redoes what failed in a stage; `delays` in seconds, the wait before each retry."""
        self._store = store
        self._stages = stages
        self._batch_size = batch_size
        self._max_retries = max_retries
        self._delays = delays
        self._events = events
        self._clock = clock

    async def run(self) -> Summary:
        started = self._clock()
        self._events.dlq_started()
        letters = await self._store.claim(
            self._batch_size, max_retries=self._max_retries, delays=self._delays
        )
        outcomes: Counter[Outcome] = Counter()
        turn = asyncio.Semaphore(AT_ONCE)

        async def retry(letter: DueLetter) -> None:
            async with turn:
                outcomes[await self._retry(letter)] += 1

        async with asyncio.TaskGroup() as group:
            for letter in letters:
                group.create_task(retry(letter))
        took = self._clock() - started
        self._events.dlq_completed(
            processed=len(letters),
            successful=outcomes["successful"],
            failed=outcomes["failed"],
            abandoned=outcomes["abandoned"],
            took=took,
        )
        return {
            "success": True,
            "processed": len(letters),
            "successful": outcomes["successful"],
            "failed": outcomes["failed"],
            "abandoned": outcomes["abandoned"],
            "durationMs": round(took * 1000),
        }

    async def _retry(self, letter: DueLetter) -> Outcome:
        """An abandoned letter counts as that alone, not as failed too."""
        error = None if letter.spent else await self._redone(letter)
        if not letter.spent:
            await self._store.settle(letter.id, error=error, max_retries=self._max_retries)
        outcome: Outcome = "successful" if error is None and not letter.spent else "failed"
        if letter.spent or (error is not None and letter.retry_count >= self._max_retries):
            outcome = "abandoned"
            self._events.dlq_message_abandoned(
                letter_id=letter.id,
                stage=letter.stage,
                retries=letter.retry_count,
                correlation_id=letter.correlation_id,
            )
        else:
            self._events.dlq_message_processed(
                letter_id=letter.id,
                stage=letter.stage,
                retries=letter.retry_count,
                correlation_id=letter.correlation_id,
                successful=error is None,
            )
        return outcome

    async def _redone(self, letter: DueLetter) -> str | None:
        """None when it succeeded, else why not."""
        redo = self._stages.get(letter.stage, _unknown)
        try:
            async with asyncio.timeout(LONGEST):
                await redo(letter)
        except DatabaseUnreachable:
            raise
        except TimeoutError:
            return f"TimeoutError: it took longer than {LONGEST:g} s"
        except Exception as error:  # noqa: BLE001 whatever a letter causes, the others must not feel it
            return f"{type(error).__name__}: {error}"
        return None


async def _unknown(letter: DueLetter) -> None:
    raise UnknownStage(f"no daemon here redoes what failed in the stage {letter.stage!r}")
