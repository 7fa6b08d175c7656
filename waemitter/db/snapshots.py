"""Transactions that stay open for long, by whomever: while one may still see a dead row, no vacuum removes it.

A queue suffers first: what was sent stays in its indexes, and each claim reads past it. So we look who holds the oldest
snapshot: a session that sits idle in its transaction, a dump, a prepared transaction, a replication slot that nobody reads.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple, Protocol

import asyncpg

from waemitter.db.pool import outages
from waemitter.errors import DatabaseUnreachable

LOOK_EVERY: Final = 15.0  # seconds
LONG: Final = 60.0  # seconds from which it is told, and again each time they have doubled

# The xmin of others is shown to everybody, when their transactions began is not: the time is counted here, from the first look.
# While one that writes is open, the snapshots of all that only read are as old as it: it is the one to be named.
OLDEST: Final = """
    select kind || ' ' || name as holder, age(xmin) as transactions, xmin::text as xmin
    from (
      select case when s.backend_type = 'walsender' then 'standby' else 'session' end as kind,
             s.pid || coalesce(' (' || nullif(s.application_name, '') || ')', '') as name,
             coalesce(s.backend_xid, s.backend_xmin) as xmin, s.backend_xid is not null as writes
      from pg_stat_activity s
      where s.pid <> pg_backend_pid() and s.backend_type <> 'autovacuum worker'
        and (s.datname = current_database() or s.datname is null)
      union all
      select 'prepared transaction', p.gid, p.transaction, true from pg_prepared_xacts p where p.database = current_database()
      union all
      select 'replication slot', r.slot_name, r.xmin, false from pg_replication_slots r) held
    where xmin is not null order by age(xmin) desc, writes desc, name limit 1
"""


class Held(NamedTuple):
    """The oldest snapshot of all: it is the same as long as its `xmin` is, whoever is named with it."""

    holder: str
    transactions: int
    xmin: str


class Stop(Protocol):
    """As the supervisor's: `sleep` returns True when it was cut short, since the daemon stops."""

    async def sleep(self, seconds: float) -> bool: ...


class Observer(Protocol):
    def snapshot_sampled(self, *, seconds: float) -> None: ...
    def snapshot_held(self, *, holder: str, seconds: float, transactions: int) -> None: ...
    def snapshot_released(self, *, holder: str, seconds: float) -> None: ...


class SnapshotWatch:
    """Looks from time to time, and says when one is held for long, and when it is gone."""

    def __init__(
        self,
        pool: asyncpg.Pool[asyncpg.Record],
        *,
        observer: Observer,
        clock: Callable[[], float],
        look_every: float = LOOK_EVERY,
        long: float = LONG,
    ) -> None:
        """`clock` in seconds, monotonic."""
        self._pool = pool
        self._observer = observer
        self._clock = clock
        self._look_every = look_every
        self._long = long
        self._held: Held | None = None
        self._since = 0.0
        self._tell_at = long

    async def run(self, stop: Stop) -> None:
        while not await stop.sleep(self._look_every):
            try:
                with outages():
                    record = await self._pool.fetchrow(OLDEST)
            except DatabaseUnreachable:
                continue  # others tell of it
            self.seen(None if record is None else Held(*record))

    def seen(self, held: Held | None) -> None:
        """Take notice of the oldest snapshot there is now."""
        now = self._clock()
        before = self._held
        if before is None or held is None or held.xmin != before.xmin:
            if before is not None and self._tell_at > self._long:
                self._observer.snapshot_released(holder=before.holder, seconds=now - self._since)
            self._since, self._tell_at = now, self._long
        self._held = held
        seconds = 0.0 if held is None else now - self._since
        self._observer.snapshot_sampled(seconds=seconds)
        if held is not None and seconds >= self._tell_at:
            self._tell_at = 2 * seconds
            self._observer.snapshot_held(
                holder=held.holder, seconds=seconds, transactions=held.transactions
            )
