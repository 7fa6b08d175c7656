"""What the pages about jobs, buffers, agents and figures read; each statement is bounded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import asyncpg

from waemitter.db.pool import outages


class OperationsStore:
    def __init__(self, pool: asyncpg.Pool[asyncpg.Record]) -> None:
        self._pool = pool

    RUNS: Final = """
        select id, job_name, reason, status, summary::text as summary, error, created_at, started_at,
               extract(epoch from duration)::float8 as seconds
        from waemitter.job_runs order by id desc limit 50
    """

    async def runs(self) -> Sequence[dict[str, Any]]:
        """The last 50 runs of all jobs."""
        return await self._all(self.RUNS)

    # Unfinished ones are few, and have an index; the rest is looked for among the newest.
    UNFINISHED: Final = """
        select b.id, b.conversation_id, b.status, b.message_count, b.buffer_start_time, b.closes_at, b.waits, b.route, b.outcome,
               b.flush_reason, b.processed_at, j.attempts, j.error_message as error,
               coalesce(c.phone, c.user_id, c.group_id) as address, v.channel
        from (select * from waemitter.message_buffer where closes_at is not null and id < coalesce($2, 9223372036854775807)
                and status = $1 order by closes_at, id limit 1000) b
        join waemitter.conversations v on v.id = b.conversation_id join waemitter.contacts c on c.id = v.contact_id
        left join waemitter.buffer_processing_jobs j on j.buffer_id = b.id
        order by b.id desc limit $3
    """
    BUFFERS: Final = """
        select b.id, b.conversation_id, b.status, b.message_count, b.buffer_start_time, b.closes_at, b.waits, b.route, b.outcome,
               b.flush_reason, b.processed_at, j.attempts, j.error_message as error,
               coalesce(c.phone, c.user_id, c.group_id) as address, v.channel
        from (select * from (select * from waemitter.message_buffer where id < coalesce($2, 9223372036854775807)
                             order by id desc limit 5000) w
              where $1::text is null or status = $1 order by id desc limit $3) b
        join waemitter.conversations v on v.id = b.conversation_id join waemitter.contacts c on c.id = v.contact_id
        left join waemitter.buffer_processing_jobs j on j.buffer_id = b.id
        order by b.id desc
    """

    async def buffers(
        self, status: str | None, *, before: int | None, limit: int
    ) -> Sequence[dict[str, Any]]:
        """The newest first; those that ended out of 5,000 before an id."""
        statement = self.UNFINISHED if status in {"open", "processing"} else self.BUFFERS
        return await self._all(statement, status, before, limit)

    FLOW: Final = "select waemitter.flag_enabled('buffer_processing') as flows"

    async def buffers_flow(self) -> bool:
        """False: buffers fill and wait, by an operator's word."""
        return bool((await self._all(self.FLOW))[0]["flows"])

    CLOSE: Final = """
        with v as materialized (
          select v.id from waemitter.conversations v
          where v.id = (select b.conversation_id from waemitter.message_buffer b where b.id = $1) for no key update)
        update waemitter.message_buffer b set closes_at = clock_timestamp(), flush_reason = 'trigger'
        from v where b.id = $1 and b.conversation_id = v.id and b.status = 'open' and b.closes_at > clock_timestamp()
        returning b.id
    """

    async def close_buffer(self, buffer_id: int) -> int:
        """Do not wait for its window's end. Returns how many buffers that are."""
        return len(await self._all(self.CLOSE, buffer_id))

    REDO: Final = """
        update waemitter.buffer_processing_jobs set status = 'scheduled', attempts = 0, error_message = null
        where buffer_id = $1 and status = 'failed' returning id
    """

    async def redo_buffer(self, buffer_id: int) -> int:
        """Work on a failed turn again."""
        return len(await self._all(self.REDO, buffer_id))

    AGENTS: Final = """
        select agent, variant, count(*) as turns, count(*) filter (where outcome = 'answered') as answered,
               count(*) filter (where outcome = 'fallback') as fallbacks, count(*) filter (where outcome = 'refused') as refused,
               count(*) filter (where outcome in ('failed', 'lost')) as failed, count(*) filter (where handover) as handovers,
               sum(tool_calls) as tool_calls,
               percentile_cont(0.5) within group (order by latency_ms) / 1000 as p50,
               percentile_cont(0.95) within group (order by latency_ms) / 1000 as p95,
               sum(input_tokens)::float8 as input_tokens, sum(output_tokens)::float8 as output_tokens, sum(cost)::float8 as cost
        from (select * from waemitter.agent_sessions order by id desc limit 20000) s
        where started_at > clock_timestamp() - interval '24 hours' group by 1, 2 order by 1, 2
    """
    USAGE: Final = """
        select agent, tokens from waemitter.agent_usage
        where day = (clock_timestamp() at time zone 'UTC')::date and contact_id = 0
    """
    FAILURES: Final = """
        select id, agent, variant, outcome, error, conversation_id, started_at
        from (select * from waemitter.agent_sessions order by id desc limit 5000) s
        where error is not null and started_at > clock_timestamp() - interval '24 hours' order by id desc limit 20
    """

    async def agents(self) -> Sequence[dict[str, Any]]:
        """Of the last 24 hours, out of the newest 20,000 turns; latencies in seconds."""
        return await self._all(self.AGENTS)

    async def agent_usage(self) -> Sequence[dict[str, Any]]:
        """Tokens of today (UTC), used or reserved."""
        return await self._all(self.USAGE)

    async def agent_failures(self) -> Sequence[dict[str, Any]]:
        return await self._all(self.FAILURES)

    FIGURES: Final = """
        select hour, name, labels ->> 'route' as route, labels ->> 'agent' as agent, labels ->> 'le' as le,
               labels ->> 'outcome' as outcome, sum(value)::float8 as value
        from waemitter.service_metrics
        where hour >= date_trunc('hour', now()) - interval '47 hours' and hour <= now()
          and name in ('messages_sent', 'messages_delivered', 'messages_read', 'messages_failed', 'webhooks_received',
                       'turns', 'turn_conversations', 'turn_takeovers', 'turn_seconds', 'agent_turns', 'agent_handovers',
                       'agent_seconds', 'messages_arrived', 'turn_replies_sent', 'turn_replies_arrived', 'agent_replies_sent',
                       'agent_replies_arrived')
        group by 1, 2, 3, 4, 5, 6 order by 1
    """

    async def figures(self) -> Sequence[dict[str, Any]]:
        """Sums by the hour of the last two days, all channels together; of `_seconds` the counts of each bucket."""
        return await self._all(self.FIGURES)

    async def _all(self, statement: str, *arguments: Any) -> list[dict[str, Any]]:
        with outages():
            return [dict(record) for record in await self._pool.fetch(statement, *arguments)]
