"""What must be true of the database before anything is claimed there.

Without a spool a daemon that finds no database ends at once, and says why. With one it has something to do meanwhile: it takes
webhooks onto its disk, and everything else begins when the database has come.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

from waemitter.daemon.shared import Shared, secret
from waemitter.db import schema
from waemitter.db.pool import open_connection
from waemitter.errors import DatabaseUnreachable
from waemitter.runtime.supervise import Service, Stop

RETRY: Final = 1.0
"""Seconds between two looks for a database that is away."""


class Preparation:
    def __init__(
        self,
        shared: Shared,
        steps: Sequence[Callable[[], Awaitable[None]]],
        *,
        apply_schema: bool,
        done: Callable[[], None],
        abandoned: Callable[[], None],
    ) -> None:
        """`done()`: what waited may begin. `abandoned()`: it never will, a stop came first."""
        self._shared = shared
        self._steps = steps
        self._apply_schema = apply_schema
        self._done = done
        self._abandoned = abandoned
        self.succeeded = False
        self._decided: Final = asyncio.Event()

    async def attempt(self) -> bool:
        """False: told to stop while that took its time.

        Raises SchemaNotSupported, UsageError or DatabaseUnreachable.
        """
        try:
            async with self._shared.stop.interrupting():
                await self._check_schema()
                for step in self._steps:
                    await step()
        except TimeoutError:  # the stop's: a slow database is DatabaseUnreachable
            return False
        self.succeeded = True
        self._decided.set()
        self._done()
        return True

    async def _check_schema(self) -> None:
        """By a connection of its own, which tells best what is wrong with it."""
        async with open_connection(secret(self._shared.settings.database.url)) as connection:
            if self._apply_schema:
                await schema.apply(connection)
            await schema.require(connection)

    def before(self, services: Mapping[str, Service]) -> dict[str, Service]:
        """The services that begin when the database has come, and the one that looks for it."""
        return {
            "preparation": self._run,
            **{name: self._afterwards(service) for name, service in services.items()},
        }

    async def _run(self, stop: Stop) -> None:
        while not stop.requested.is_set():
            try:
                if await self.attempt():
                    await stop.requested.wait()
                    return
            except DatabaseUnreachable as error:
                self._shared.events.database_lost(error=str(error))
            await stop.sleep(RETRY)
        self._decided.set()
        self._abandoned()

    def _afterwards(self, service: Service) -> Service:
        async def run(stop: Stop) -> None:
            await self._decided.wait()
            if self.succeeded:
                await service(stop)

        return run
