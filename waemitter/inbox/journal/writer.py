"""A webhook is committed before its sender gets a 200.

Requests that arrive while one commit is under way share the next one, and many do not wait for it: they get one beside it. A
sender that hangs up in the meantime changes nothing.
With a spool, what Postgres does not take is synced to disk instead; while anything lies there, all that comes goes there too, so
that the order stays.
"""

import asyncio
import datetime
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Protocol, TypeAlias

import orjson

from waemitter.errors import DatabaseUnreachable
from waemitter.inbox.journal.records import Entry, Spooled, encode
from waemitter.inbox.journal.spool import Spool, SpoolFull

MOST_BYTES: Final = 64 * 1024 * 1024  # bodies that wait for their commit, all together
LARGEST: Final = 500  # bodies in one commit
LARGEST_BYTES: Final = 8 * 1024 * 1024  # in one commit, unless a single body is larger
PATIENCE: Final = 5.0  # seconds: Meta comes again, so a slow database is soon a 503
WORTH_A_SECOND: Final = (
    16  # bodies: while a commit is on its way, so many that wait get one beside it
)
HOLD_OFF: Final = 1.0  # seconds without a try, once the database was too slow

Told: TypeAlias = Callable[[BaseException | None], None]
"""Hears once that the body is kept (None), or why it is not."""


class Waiting:
    """A body that is not kept yet, and who wants to know."""

    __slots__ = ("_told", "entry")

    def __init__(self, entry: Entry, told: Told) -> None:
        self.entry = entry
        self._told: Told | None = told

    def tell(self, error: BaseException | None) -> None:
        """Only the first word counts."""
        told, self._told = self._told, None
        if told is None:
            return
        try:
            told(error)
        except Exception as bug:  # noqa: BLE001 the others shall hear too
            asyncio.get_running_loop().call_exception_handler(
                {"message": "a webhook's sender could not be told", "exception": bug}
            )


class Store(Protocol):
    async def append(
        self, entries: Sequence[Entry], *, lease: datetime.timedelta | None = None
    ) -> Sequence[int]: ...
    async def newest(self) -> int: ...


class Handover(Protocol):
    """Whoever works off in this process what was just journalled, without asking the table for it."""

    def room(self, entries: Sequence[Entry]) -> datetime.timedelta | None:
        """For how long to claim these for it; None: it has enough to do."""
        ...

    def take(self, ids: Sequence[int], entries: Sequence[Entry]) -> None:
        """They are committed, and claimed for it."""
        ...


class JournalFull(DatabaseUnreachable):
    """More is waiting to be written than memory should hold."""


class Journal:
    def __init__(
        self,
        store: Store,
        *,
        written: Callable[[], None],
        failed: Callable[[], None] = lambda: None,
        spool: Spool | None = None,
        spooling: Callable[[], None] = lambda: None,
        patience: float = PATIENCE,
        handover: Handover | None = None,
    ) -> None:
        """`written()`: there is something to split; `failed()`: something was not taken, or by the disk alone.

        `spooling()`: from now on the disk takes it. `patience` in seconds.
        """
        self._store = store
        self._written = written
        self._failed = failed
        self._spool = spool
        self._spooling = spooling
        self._patience = patience
        self._handover = handover
        self._waiting: list[Waiting] = []
        self._bytes = 0
        self._writing = 0  # commits on their way
        self._something: Final = asyncio.Event()
        self._closed = False
        self._newest: int | None = None  # the highest id of the table, as far as is known here
        self.held = False
        """All goes to the spool: whether the database is one to write to is not known yet."""
        self._next_try = 0.0

    async def record(self, *, source: str, body: bytes, headers: Mapping[str, str]) -> None:
        """Return when the body is committed, or synced to the spool.

        Raises DatabaseUnreachable or SpoolFull when it is neither: answer 503.
        """
        committed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def told(error: BaseException | None) -> None:
            if committed.done():  # its sender hung up
                return
            if isinstance(error, asyncio.CancelledError):
                committed.cancel()
            elif error is not None:
                committed.set_exception(error)
            else:
                committed.set_result(None)

        self.enter(source=source, body=body, headers=headers, told=told)
        await committed

    def enter(self, *, source: str, body: bytes, headers: Mapping[str, str], told: Told) -> None:
        """As `record`, for whoever has nothing to wait with; `told` may not raise. Raises JournalFull."""
        if self._closed or self._bytes + len(body) > MOST_BYTES:
            self._failed()
            raise JournalFull("more webhooks are waiting than can be held: Meta will send it again")
        self._waiting.append(Waiting(Entry(source, body, _json(headers)), told))
        self._bytes += len(body)
        self._something.set()

    def close(self) -> None:
        """Nothing more will come: `run` ends when all is written."""
        self._closed = True
        self._something.set()

    async def run(self) -> None:
        writers_wanted = 2 if self._spool is None else 1  # the spool's order is that of the commits
        async with asyncio.TaskGroup() as appends, asyncio.TaskGroup() as writers:
            for _ in range(writers_wanted):
                writers.create_task(self._write_on(appends))

    async def _write_on(self, appends: asyncio.TaskGroup) -> None:
        """Write what waits: whatever it is while no commit is on its way, and beside one what is worth a second."""
        while self._waiting or not self._closed:
            if len(self._waiting) < (WORTH_A_SECOND if self._writing else 1):
                self._something.clear()
                await self._something.wait()
                continue
            batch = self._next_batch()
            self._writing += 1
            try:
                await self._write(batch, appends)
            finally:
                self._writing -= 1
                self._something.set()  # the other may be content with less now
                self._bytes -= sum([len(each.entry.body) for each in batch])
                for each in batch:  # only a cancellation leaves one without its answer
                    each.tell(asyncio.CancelledError())

    def _next_batch(self) -> list[Waiting]:
        count = size = 0
        for each in self._waiting[:LARGEST]:
            size += len(each.entry.body)
            if count and size > LARGEST_BYTES:
                break
            count += 1
        batch, self._waiting = self._waiting[:count], self._waiting[count:]
        return batch

    async def _write(self, batch: Sequence[Waiting], appends: asyncio.TaskGroup) -> None:
        error = await self._taken(batch, appends)
        refused = error is not None and not isinstance(error, DatabaseUnreachable | SpoolFull)
        if refused and len(batch) > 1:
            for one in batch:  # what one of them has, the others shall not suffer from
                await self._write([one], appends)
            return
        for each in batch:
            if error is not None:
                self._failed()
            each.tell(error)

    async def _taken(
        self, batch: Sequence[Waiting], appends: asyncio.TaskGroup
    ) -> Exception | None:
        """By the table, else by the spool; the error when by neither."""
        if self._spool is not None and (self.held or not self._spool.empty):
            return await self._keep(self._spool, batch, after=None)
        error = await self._append(batch, appends)
        if self._spool is not None and isinstance(error, DatabaseUnreachable):
            return await self._keep(self._spool, batch, after=self._newest)
        return error

    async def _append(
        self, batch: Sequence[Waiting], appends: asyncio.TaskGroup
    ) -> Exception | None:
        """Commit them; in a task of its own, since the driver waits for a frozen server even when it is told to give up."""
        clock = asyncio.get_running_loop().time
        if clock() < self._next_try:
            return DatabaseUnreachable("the database was too slow a moment ago")
        task = appends.create_task(self._commit(batch))
        try:
            done, _ = await asyncio.wait({task}, timeout=self._patience)
        except asyncio.CancelledError:
            task.cancel()
            raise
        if done:
            return task.result()
        task.cancel()
        self._next_try = clock() + HOLD_OFF
        return DatabaseUnreachable("the database is too slow to journal webhooks")

    async def _commit(self, batch: Sequence[Waiting]) -> Exception | None:
        """Who waits is told here, and not where this is waited for: that comes turns of the loop later."""
        entries = [each.entry for each in batch]
        try:
            if self._spool is not None and self._newest is None:
                self._newest = await self._store.newest()
            lease = None if self._handover is None else self._handover.room(entries)
            ids = await self._store.append(entries, lease=lease)
            self._newest = ids[-1]
            if self._handover is not None and lease is not None:
                self._handover.take(ids, entries)
        except Exception as error:  # noqa: BLE001 whoever sent it is told; the journal goes on
            return error
        for each in batch:
            each.tell(None)
        self._written()
        return None

    async def _keep(
        self, spool: Spool, batch: Sequence[Waiting], *, after: int | None
    ) -> SpoolFull | None:
        self._failed()
        if spool.empty:
            self._spooling()
        now = time.time()
        try:
            await spool.append([encode(Spooled(each.entry, now, after)) for each in batch])
        except SpoolFull as error:
            return error
        return None


def _json(headers: Mapping[str, str]) -> str:
    try:
        return orjson.dumps(headers).decode()
    except TypeError:  # a byte that is no UTF-8 comes as a lone surrogate
        plain = {name: text.encode(errors="replace").decode() for name, text in headers.items()}
        return orjson.dumps(plain).decode()
