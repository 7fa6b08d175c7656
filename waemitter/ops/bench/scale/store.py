"""What the long programs ask of the bench's Postgres: sizes, dead rows, statuses, and a snapshot to hold."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final, NamedTuple

import asyncpg


class Sizes(NamedTuple):
    """Of the outbox: bytes of its table and of all its indexes, bytes of those that claims read, dead rows not yet vacuumed."""

    table: int
    indexes: int
    queue: int
    dead: int


class ScaleStore:
    def __init__(self, pool: asyncpg.Pool[asyncpg.Record]) -> None:
        self._pool = pool

    SIZES: Final = """
        select pg_table_size('waemitter.outbox_messages'), pg_indexes_size('waemitter.outbox_messages'),
               pg_relation_size('waemitter.outbox_due') + pg_relation_size('waemitter.outbox_lanes'),
               (select n_dead_tup from pg_stat_user_tables where relid = 'waemitter.outbox_messages'::regclass)
    """

    async def sizes(self) -> Sizes:
        record = await self._pool.fetchrow(self.SIZES)
        assert record is not None  # noqa: S101 there is always one row
        return Sizes(*record)

    VACUUM: Final = "vacuum waemitter.outbox_messages"

    async def vacuum(self) -> None:
        """What autovacuum would do within its minute."""
        await self._pool.execute(self.VACUUM)

    SETTLE_IN: Final = "vacuum analyze waemitter.outbox_messages"
    CHECKPOINT: Final = "checkpoint"

    async def settle_in(self) -> None:
        """As it stands after a while."""
        await self._pool.execute(self.SETTLE_IN)
        await self._pool.execute(self.CHECKPOINT)

    APPLY: Final = """
        select count(*) from waemitter.apply_statuses(
          message_ids => $1::bigint[], tokens => $2::bigint[],
          wamids => array(select 'wamid.' || id from unnest($1::bigint[]) id),
          words => array_fill('delivered'::text, array[$3::integer]),
          times => array_fill(clock_timestamp(), array[$3::integer]),
          codes => array_fill(null::integer, array[$3::integer]), reasons => array_fill(null::text, array[$3::integer]),
          categories => array_fill(null::text, array[$3::integer]),
          billables => array_fill(null::boolean, array[$3::integer]), heard => true)
    """

    async def delivered(self, sent: Sequence[tuple[int, int]]) -> None:
        """Meta tells so of these messages, in one webhook."""
        ids, tokens = [id_ for id_, _ in sent], [token for _, token in sent]
        await self._pool.execute(self.APPLY, ids, tokens, len(ids))

    PURGE: Final = (
        "select deleted from waemitter.purge_outbox(older_than => '30 minutes', max_rows => 1000)"
    )

    async def purge(self) -> int:
        """A batch of the retention."""
        deleted: int = await self._pool.fetchval(self.PURGE)
        return deleted

    SNAPSHOT: Final = "select pg_current_snapshot()"

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[None]:
        """A transaction that stays open, and may still see all that is there now."""
        async with (
            self._pool.acquire() as connection,
            connection.transaction(isolation="repeatable_read"),
        ):
            await connection.fetchval(self.SNAPSHOT)
            yield
