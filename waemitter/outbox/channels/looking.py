"""Looking again and again, at a slow pace, at what Meta tells only to those who ask."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from waemitter.errors import DatabaseUnreachable
from waemitter.observe.events import Events
from waemitter.runtime.supervise import Stop


async def look_every(
    seconds: float,
    look: Callable[[], Awaitable[None]],
    stop: Stop,
    *,
    events: Events,
    jitter: Callable[[], float],
) -> None:
    """Look now, and every so many seconds until the stop; a lost database is told of, and looked past."""
    while True:
        try:
            await look()
        except DatabaseUnreachable as error:
            events.database_lost(error=str(error))
        if await stop.sleep(seconds * jitter()):
            return
