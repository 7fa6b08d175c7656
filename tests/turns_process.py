"""`python -m tests.turns_process DSN STEP`: a worker that claims one turn and stops for ever at one step of it, to be killed."""

from __future__ import annotations

import asyncio
import sys
import time
from typing import Any

import asyncpg
from typing_extensions import override

from tests.observing import observing
from tests.turns_bench import Script, text
from waemitter.turns.policy import Policy
from waemitter.turns.routing import Decision, Facts, Flags
from waemitter.turns.store import TurnStore
from waemitter.turns.turn import Answer, Session, Turn
from waemitter.turns.worker import Worker

STEPS = ("claimed", "routing", "handling", "answered", "committed")


def here() -> None:
    sys.stdout.write("here\n")
    sys.stdout.flush()


class Stuck(Script):
    step = ""

    @override
    def decide(self, facts: Facts, session: Session, flags: Flags) -> Decision | None:
        if self.step == "routing":
            here()
            time.sleep(60)
        return super().decide(facts, session, flags)

    @override
    async def handle(self, turn: Turn) -> Answer:
        if self.step == "handling":
            here()
            await asyncio.Event().wait()
        return Answer(messages=[text(f"you said: {turn.text}")])


class StuckStore(TurnStore):
    step = ""

    @override
    async def commit(self, *arguments: Any, **named: Any) -> Any:
        if self.step in {"answered", "committing"}:
            here()
        if self.step == "answered":
            await asyncio.Event().wait()
        outcome = await super().commit(*arguments, **named)
        if self.step == "committed":
            here()
            await asyncio.Event().wait()
        return outcome


async def main(dsn: str, step: str) -> None:
    async with asyncpg.create_pool(dsn, min_size=1, max_size=2) as pool:
        script, store = Stuck(), StuckStore(pool)
        script.step = store.step = step
        with observing() as observed:
            worker = Worker(
                store,
                script,
                courtesies={},
                events=observed.events,
                policy=Policy(),
                clock=time.monotonic,
                jitter=lambda: 1.0,
            )
            (turn,) = (await worker.claim(1)).rows
            if step == "claimed":
                here()
                await asyncio.Event().wait()
            await worker.work(turn)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
