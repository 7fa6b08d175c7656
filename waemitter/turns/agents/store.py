"""What agents remember, and what they used, in Postgres: agent_contexts, agent_sessions, agent_usage."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias

import asyncpg

from waemitter.db.pool import outages
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
    def __init__(self, pool: asyncpg.Pool[asyncpg.Record]) -> None:
        self._pool = pool

    # 200 exchanges are more than any window holds that is worth its price.
    REMEMBERED: Final = """
        with s as materialized (
          select said, through_id from waemitter.agent_contexts where contact_id = $1 and agent = $2 and kind = 'summary')
        select 0 as id, null as heard, said, 'summary' as kind from s
        union all
        (select id, heard, said, kind from waemitter.agent_contexts
         where contact_id = $1 and (agent = $2 or agent is null) and kind <> 'summary'
           and id > coalesce((select through_id from s), 0) and turn_id is distinct from $3
         order by id desc limit 200)
    """

    async def load(self, agent: str, contact_id: int, *, turn_id: int) -> Memory:
        """What an agent knows of a contact, without this turn's own earlier attempts."""
        with outages():
            rows = await self._pool.fetch(self.REMEMBERED, contact_id, agent, turn_id)
        entries = [
            Entry(row["heard"], row["said"], human=row["kind"] == "human", id=row["id"])
            for row in sorted(rows, key=lambda row: row["id"])
            if row["kind"] != "summary"
        ]
        summary = next((row["said"] for row in rows if row["kind"] == "summary"), None)
        return Memory(summary=summary, entries=entries)

    BEGIN: Final = """
        select session_id, refusal from waemitter.begin_agent_session(agent => $1, variant => $2, model => $3, contact_id => $4,
          conversation_id => $5, turn_id => $6, attempt => $7, correlation_id => $8, estimate => $9, per_day => $10,
          per_contact => $11)
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
        with outages():
            row = await self._pool.fetchrow(
                self.BEGIN,
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
        assert row is not None  # noqa: S101 the function returns one row
        return row["session_id"], row["refusal"]

    REVIEWS: Final = """
        select waemitter.flag_enabled('response_quality_enhancement', $1)
    """

    async def reviews(self, contact_id: int) -> bool:
        """Whether the flag response_quality_enhancement is on for this contact."""
        with outages():
            return bool(await self._pool.fetchval(self.REVIEWS, contact_id))

    END: Final = """
        with remembered as (
          insert into waemitter.agent_contexts (contact_id, agent, kind, turn_id, heard, said)
          select $12, s.agent, 'turn', $13, $14, $15 from waemitter.agent_sessions s where s.id = $1 and $2 = 'answered'
          on conflict (contact_id, agent, turn_id) where turn_id is not null
          do update set heard = excluded.heard, said = excluded.said),
        summarised as (
          insert into waemitter.agent_contexts (contact_id, agent, kind, said, through_id)
          select $12, s.agent, 'summary', $16, $17 from waemitter.agent_sessions s where s.id = $1 and $16::text is not null
          on conflict (contact_id, agent) where kind = 'summary'
          do update set said = excluded.said, through_id = excluded.through_id)
        select waemitter.end_agent_session(session_id => $1, outcome => $2, calls => $3, input_tokens => $4,
          output_tokens => $5, cost => $6, took => $7, review => $8, handover => $9, error => $10, tool_calls => $11)
    """

    async def end(self, turn: Turn, ended: Ended, *, took: float) -> None:
        """Close the session: the tokens used replace those reserved, and what was said is remembered."""
        bill, (summary, through) = ended.bill, ended.summary or (None, None)
        with outages():
            await self._pool.execute(
                self.END,
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
