"""A webhook is committed before its sender gets a 200.

Requests that arrive while one commit is under way share the next one. A sender that hangs up in the meantime changes nothing.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Protocol

import orjson

from waemitter.errors import DatabaseUnreachable
from waemitter.inbox.store import Entry

MOST_BYTES: Final = 64 * 1024 * 1024  # bodies that wait for their commit, all together
LARGEST: Final = 500  # bodies in one commit
PATIENCE: Final = 5.0  # seconds: Meta comes again, so a slow database is soon a 503
KEPT_HEADERS: Final = ("x-hub-signature-256", "user-agent", "content-type", "x-correlation-id")


class Store(Protocol):
    async def append(self, entries: Sequence[Entry]) -> None: ...


class JournalFull(DatabaseUnreachable):
    """More is waiting to be written than memory should hold."""


class Journal:
    def __init__(self, store: Store, *, written: Callable[[], None]) -> None:
        """`written()`: there is something to split."""
        self._store = store
        self._written = written
        self._waiting: list[tuple[Entry, asyncio.Future[None]]] = []
        self._bytes = 0
        self._something: Final = asyncio.Event()
        self._closed = False

    async def record(self, *, source: str, body: bytes, headers: Mapping[str, str]) -> None:
        """Return when the body is committed. Raises DatabaseUnreachable when it is not: answer 503."""
        if self._closed or self._bytes + len(body) > MOST_BYTES:
            raise JournalFull("more webhooks are waiting than can be held: Meta will send it again")
        kept = {name: headers[name] for name in KEPT_HEADERS if name in headers}
        entry = Entry(source, body, orjson.dumps(kept).decode())
        committed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((entry, committed))
        self._bytes += len(body)
        self._something.set()
        await asyncio.shield(committed)

    def close(self) -> None:
        """Nothing more will come: `run` ends when all is written."""
        self._closed = True
        self._something.set()

    async def run(self) -> None:
        while self._waiting or not self._closed:
            if not self._waiting:
                self._something.clear()
                await self._something.wait()
                continue
            batch, self._waiting = self._waiting[:LARGEST], self._waiting[LARGEST:]
            try:
                await self._write(batch)
            finally:
                self._bytes -= sum(len(entry.body) for entry, _ in batch)
                for _, committed in batch:  # only a cancellation leaves one without its answer
                    committed.cancel()

    async def _write(self, batch: Sequence[tuple[Entry, asyncio.Future[None]]]) -> None:
        try:
            await self._append([entry for entry, _ in batch])
        except Exception as error:  # noqa: BLE001 whoever sent it is told; the journal goes on
            if len(batch) > 1 and not isinstance(error, DatabaseUnreachable):
                for one in batch:  # what one of them has, the others shall not suffer from
                    await self._write([one])
                return
            for _, committed in batch:
                if not committed.done():
                    committed.set_exception(error)
        else:
            for _, committed in batch:
                if not committed.done():
                    committed.set_result(None)
            self._written()

    async def _append(self, entries: Sequence[Entry]) -> None:
        try:
            async with asyncio.timeout(PATIENCE):
                await self._store.append(entries)
        except TimeoutError as error:
            raise DatabaseUnreachable("the database is too slow to journal webhooks") from error
