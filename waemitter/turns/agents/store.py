"""What agents remember, and what they used, in Postgres: agent_contexts, agent_sessions, agent_usage."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias

import asyncpg

from waemitter.db.pool import outages
from waemitter.runtime.together import Together, columns
from waemitter.turns.agents.agent import Bill
from waemitter.turns.agents.context import Entry, Memory
from waemitter.turns.agents.spec import Variant
from waemitter.turns.turn import Turn

Refusal: TypeAlias = Literal["day", "contact"]
Outcome: TypeAlias = Literal["answered", "fallback", "failed", "lost"]


@dataclass(slots=True, kw_only=True)
class Ended:
    """A turn of an agent, as it becomes known. `lost` is one that was cancelled, or whose daemon died."""

    session: int
    variant: Variant
    heard: str
    images: Sequence[str] = ()
    outcome: Outcome = "lost"
    bill: Bill = field(default_factory=Bill)
    said: str | None = None
    handover: bool = False
    summary: tuple[str, int] | None = None
    error: str | None = None


class AgentStore:
    """Turns that come at the same time share their statements, as far as those of an agent are of one kind."""

    def __init__(self, pool: asyncpg.Pool[asyncpg.Record]) -> None:
        self._pool = pool
        self._load: Final = Together(self._load_all)
        self._begin: Final = Together(self._begin_all)
        self._end: Final = Together(self._end_all)

    # 200 exchanges are more than any window holds that is worth its price.
    REMEMBERED: Final = """
        with g as materialized (
          select nth, agent, contact_id, turn_id
          from unnest($1::text[], $2::bigint[], $3::bigint[]) with ordinality as u (agent, contact_id, turn_id, nth)),
        s as materialized (
          select g.nth, c.said, c.through_id from g
          join waemitter.agent_contexts c on c.contact_id = g.contact_id and c.agent = g.agent and c.kind = 'summary')
        select nth, 0 as id, null as heard, said, 'summary' as kind from s
        union all
        select g.nth, c.id, c.heard, c.said, c.kind from g left join s on s.nth = g.nth cross join lateral (
          select x.id, x.heard, x.said, x.kind from waemitter.agent_contexts x
          where x.contact_id = g.contact_id and (x.agent = g.agent or x.agent is null) and x.kind <> 'summary'
            and x.id > coalesce(s.through_id, 0) and x.turn_id is distinct from g.turn_id
          order by x.id desc limit 200) c
    """

    async def load(self, agent: str, contact_id: int, *, turn_id: int) -> Memory:
        """What an agent knows of a contact, without this turn's own earlier attempts."""
        return await self._load((agent, contact_id, turn_id))

    async def _load_all(self, asked: Sequence[tuple[str, int, int]]) -> Sequence[Memory]:
        with outages():
            rows = await self._pool.fetch(self.REMEMBERED, *columns(asked))
        found: list[list[asyncpg.Record]] = [[] for _ in asked]
        for row in rows:
            found[row["nth"] - 1].append(row)
        return [_memory(each) for each in found]

    BEGIN: Final = """
        select session_id, refusal from waemitter.begin_agent_sessions(agents => $1, variants => $2, models => $3,
          contact_ids => $4, conversation_ids => $5, turn_ids => $6, attempts => $7, correlation_ids => $8, estimates => $9,
          per_days => $10, per_contacts => $11) order by nth
    """

    async def begin(
        self,
        turn: Turn,
        *,
        agent: str,
        variant: Variant,
        estimate: int,
        per_day: int | None,
        per_contact: int | None,
    ) -> tuple[int, Refusal | None]:
        """Open a session and reserve its tokens; or say which budget they would exceed."""
        return await self._begin(
            (
                agent,
                variant.name,
                variant.model,
                turn.contact.id,
                turn.conversation_id,
                turn.turn_id,
                turn.attempt,
                turn.correlation_id,
                estimate,
                per_day,
                per_contact,
            )
        )

    async def _begin_all(
        self, asked: Sequence[tuple[Any, ...]]
    ) -> Sequence[tuple[int, Refusal | None]]:
        with outages():
            rows = await self._pool.fetch(self.BEGIN, *columns(asked))
        return [(row["session_id"], row["refusal"]) for row in rows]

    REVIEWS: Final = """
        select waemitter.flag_enabled('response_quality_enhancement', $1)
    """

    async def reviews(self, contact_id: int) -> bool:
        """Whether the flag response_quality_enhancement is on for this contact."""
        with outages():
            return bool(await self._pool.fetchval(self.REVIEWS, contact_id))

    END: Final = """
        with g as materialized (
          select nth, session, outcome, contact_id, turn_id, heard, said, summary, through
          from unnest($1::bigint[], $2::text[], $12::bigint[], $13::bigint[], $14::text[], $15::text[], $16::text[],
              $17::bigint[]) with ordinality as u (session, outcome, contact_id, turn_id, heard, said, summary, through, nth)),
        remembered as (
          insert into waemitter.agent_contexts (contact_id, agent, kind, turn_id, heard, said)
          select g.contact_id, s.agent, 'turn', g.turn_id, g.heard, g.said
          from g join waemitter.agent_sessions s on s.id = g.session where g.outcome = 'answered' order by g.nth
          on conflict (contact_id, agent, turn_id) where turn_id is not null
          do update set heard = excluded.heard, said = excluded.said),
        summarised as (
          insert into waemitter.agent_contexts (contact_id, agent, kind, said, through_id)
          select g.contact_id, s.agent, 'summary', g.summary, g.through
          from g join waemitter.agent_sessions s on s.id = g.session where g.summary is not null order by g.nth
          on conflict (contact_id, agent) where kind = 'summary'
          do update set said = excluded.said, through_id = excluded.through_id)
        select waemitter.end_agent_sessions(session_ids => $1, outcomes => $2, call_counts => $3, inputs => $4, outputs => $5,
          costs => $6, durations => $7, reviews => $8, handovers => $9, errors => $10, tool_call_counts => $11)
    """

    async def end(self, turn: Turn, ended: Ended, *, took: float) -> None:
        """Close the session: the tokens used replace those reserved, and what was said is remembered."""
        bill, (summary, through) = ended.bill, ended.summary or (None, None)
        await self._end(
            (
                ended.session,
                ended.outcome,
                bill.calls,
                bill.input_tokens,
                bill.output_tokens,
                ended.variant.cost(bill.input_tokens, bill.output_tokens),
                datetime.timedelta(seconds=took),
                bill.reviewed,
                ended.handover,
                ended.error,
                bill.tool_calls,
                turn.contact.id,
                turn.turn_id,
                ended.heard,
                ended.said,
                summary,
                through,
            )
        )

    async def _end_all(self, asked: Sequence[tuple[Any, ...]]) -> Sequence[None]:
        with outages():
            await self._pool.execute(self.END, *columns(asked))
        return [None] * len(asked)

    COMPARE: Final = """
        select variant, sessions, turns, replied, reply_rate, handover_rate, failure_rate, avg_latency_ms, p95_latency_ms,
               input_tokens, output_tokens, cost, cost_per_turn
        from waemitter.compare_agent_variants(agent => $1, since => $2)
    """

    async def compare(self, agent: str, since: datetime.timedelta) -> Sequence[Mapping[str, Any]]:
        """How the variants of an agent did, a row each."""
        with outages():
            return [dict(row) for row in await self._pool.fetch(self.COMPARE, agent, since)]

    FORGET: Final = """
        select waemitter.forget_agent_contexts(contact_id => $1)
    """

    async def forget(self, contact_id: int) -> int:
        """Delete what all agents remember of a contact; returns the number of exchanges."""
        with outages():
            return int(await self._pool.fetchval(self.FORGET, contact_id))


def _memory(rows: Sequence[asyncpg.Record]) -> Memory:
    entries = [
        Entry(row["heard"], row["said"], human=row["kind"] == "human", id=row["id"])
        for row in sorted(rows, key=lambda row: row["id"])
        if row["kind"] != "summary"
    ]
    summary = next((row["said"] for row in rows if row["kind"] == "summary"), None)
    return Memory(summary=summary, entries=entries)
