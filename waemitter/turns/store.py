"""Turns in the database: claimed, held, ended. Functions of schema.sql do the work."""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple, TypeAlias, cast

import asyncpg
import orjson

from waemitter.db.pool import outages
from waemitter.runtime.together import Together, columns
from waemitter.turns.routing import Flags
from waemitter.turns.turn import Answer, Contact, Session

COMMITTED_TOGETHER: Final = 20
"""Turns in one transaction, at the most: it holds the locks of all their conversations."""
MANY_WAIT: Final = 10
"""… and as many that wait for it go beside it."""

Outcome: TypeAlias = Literal["answered", "forwarded", "silent", "human", "superseded", "lost"]


class Hold(NamedTuple):
    """What proves that a turn is ours: its lock, and the fence that rises with each holder."""

    turn_id: int
    lock_id: uuid.UUID
    fence: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimed:
    """A turn to be worked on, and all that is known of it. `late`: seconds since it was due."""

    hold: Hold
    conversation_id: int
    attempt: int
    channel: str
    correlation_id: str
    contact: Contact
    session: Session
    flags: Flags
    messages: Sequence[Mapping[str, Any]]
    human: bool  # answers this conversation, at this time
    superseded: int
    flushed_by: str
    late: float
    resume: Answer | None  # what the handler said when the commit failed


class Terms(NamedTuple):
    """By which turns end: how long sessions are good, how long a human has what is handed over, and who gets it.

    `transcript`: they get to see what was said before.
    """

    session_ttl: datetime.timedelta
    takeover: datetime.timedelta
    most_superseded: int
    default_desk: str | None = None
    transcript: bool = False


class Claims(NamedTuple):
    turns: Sequence[Claimed]
    next_due: float | None


class TurnStore:
    def __init__(self, pool: asyncpg.Pool[asyncpg.Record]) -> None:
        self._pool = pool
        self._commit: Final = Together(
            self._commit_all, largest=COMMITTED_TOGETHER, beside=MANY_WAIT
        )

    CLAIM: Final = """
        select turn_id, conversation_id, lock_id, fence, attempt, channel, correlation_id, contact_id, wa_id, user_id, phone,
          name, active_service, context, messages, buffering, enhanced, quality, human, superseded, reason, late, resume, next_due
        from waemitter.claim_turns(max_rows => $1, lease => $2, ttl => $3, only_turn => $4)
    """

    async def claim(
        self,
        limit: int,
        *,
        lease: datetime.timedelta,
        ttl: datetime.timedelta,
        only: int | None = None,
    ) -> Claims:
        """Claim turns that are due (or that one), for `lease`; sessions older than `ttl` are over."""
        with outages():
            records = await self._pool.fetch(self.CLAIM, limit, lease, ttl, only)
        turns = [_claimed(record) for record in records if record["turn_id"] is not None]
        return Claims(turns, records[0]["next_due"])

    RENEW: Final = (
        "select waemitter.renew_turn(turn_id => $1, lock_id => $2, fence => $3, lease => $4)"
    )

    async def renew(self, hold: Hold, *, lease: datetime.timedelta) -> bool:
        """False: it is no longer ours."""
        with outages():
            return cast("bool", await self._pool.fetchval(self.RENEW, *hold, lease))

    # In the order in which the inbox locks conversations, so that neither waits for the other in a circle. Together they wait for
    # none: a conversation that somebody else has locked comes without an outcome, unless ($17) it may be waited for.
    COMMIT: Final = """
        with free as materialized (
          select v.id from waemitter.conversations v
          where v.id in (select b.conversation_id from waemitter.message_buffer b where b.id = any ($1::bigint[]))
          order by v.id for no key update skip locked)
        select nth, case when $17::boolean or is_free then
          waemitter.commit_turn(turn_id => turn_id, lock_id => lock_id, fence => fence, route => route,
            replies => replies, session => session, session_before => session_before, ttl => ttl, handover => handover,
            takeover => takeover, discard => discard, most_superseded => most_superseded, desk => desk,
            default_desk => default_desk, forwards => forwards, transcript => transcript) end as outcome
        from (
          select t.*, f.id is not null as is_free
          from unnest($1::bigint[], $2::uuid[], $3::bigint[], $4::text[], $5::text[]::jsonb[], $6::text[]::jsonb[],
              $7::text[]::jsonb[], $8::interval[], $9::boolean[], $10::interval[], $11::boolean[], $12::integer[], $13::text[],
              $14::text[], $15::text[]::jsonb[], $16::boolean[])
            with ordinality as t (turn_id, lock_id, fence, route, replies, session, session_before, ttl, handover, takeover,
              discard, most_superseded, desk, default_desk, forwards, transcript, nth)
          left join waemitter.message_buffer b on b.id = t.turn_id
          left join free f on f.id = b.conversation_id order by b.conversation_id, nth) ordered
    """

    async def commit(
        self,
        hold: Hold,
        answer: Answer,
        *,
        route: str,
        before: Session,
        discard: bool,
        terms: Terms,
        forwards: Sequence[Mapping[str, Any]] = (),
    ) -> Outcome:
        """All that the turn leads to, or nothing of it. `before`: the session as it was claimed.

        `forwards`: what the customer wrote, as rows for a Chatwoot channel: the answer's `desk`, or, when a person has the
        conversation, the one in which it is, else the `default_desk`.

        Turns that end at the same time share a transaction; one whose conversation somebody has locked waits for that alone.
        Raises what the database says to replies that it cannot keep.
        """
        session = answer.session
        ending = (
            *hold,
            route,
            _json([dict(message) for message in answer.messages]),
            None if session is None else _json(_session(session)),
            _json(_session(before)),
            terms.session_ttl,
            answer.handover,
            terms.takeover,
            discard,
            terms.most_superseded,
            answer.desk,
            terms.default_desk,
            _json([dict(message) for message in forwards]),
            terms.transcript,
        )
        outcome = await self._commit(ending)
        if outcome is None:
            (outcome,) = await self._commit_all([ending], wait=True)
        return cast("Outcome", outcome)

    async def _commit_all(
        self, ending: Sequence[tuple[Any, ...]], *, wait: bool = False
    ) -> Sequence[Outcome | None]:
        """None: its conversation is locked by somebody else, which only `wait` waits for."""
        with outages():
            rows = await self._pool.fetch(self.COMMIT, *columns(ending), wait)
        outcomes = {row["nth"]: row["outcome"] for row in rows}
        return [outcomes[nth] for nth in range(1, len(ending) + 1)]

    RETRY: Final = """
        select waemitter.retry_turn(turn_id => $1, lock_id => $2, fence => $3, delay => $4, error => $5, counted => $6)
    """

    async def retry(
        self, hold: Hold, *, delay: datetime.timedelta, error: str | None, counted: bool
    ) -> bool:
        """Try it again after `delay`; not `counted`: it was not even begun. False: it is no longer ours."""
        with outages():
            return cast("bool", await self._pool.fetchval(self.RETRY, *hold, delay, error, counted))

    BURY: Final = """
        select waemitter.bury_turn(turn_id => $1, lock_id => $2, fence => $3, route => $4, stage => $5, error => $6,
          error_class => $7, stack => $8, resume => $9::text::jsonb, retry_in => $10)
    """

    async def bury(
        self,
        hold: Hold,
        *,
        route: str | None,
        stage: str,
        error: str,
        error_class: str,
        stack: str | None,
        resume: Answer | None,
        retry_in: datetime.timedelta,
    ) -> int | None:
        """It becomes a dead letter, whose id is returned; None: it is no longer ours."""
        kept = None if resume is None else _resumable(resume)
        with outages():
            letter: int | None = await self._pool.fetchval(
                self.BURY, *hold, route, stage, error, error_class, stack, kept, retry_in
            )
        return letter

    REDO: Final = "select waemitter.redo_turn(turn_id => $1)"

    async def redo(self, turn_id: int) -> bool:
        """A failed turn is due once more. False: it is none."""
        with outages():
            return cast("bool", await self._pool.fetchval(self.REDO, turn_id))

    LEAVE: Final = "select waemitter.leave_turn(turn_id => $1)"

    async def leave(self, turn_id: int) -> None:
        """What redo() made due, and could not be claimed, stays failed."""
        with outages():
            await self._pool.execute(self.LEAVE, turn_id)

    DEPTH: Final = """
        select s.status, count(b.id) from unnest('{open,processing}'::text[]) as s (status)
        left join waemitter.message_buffer b on b.status = s.status and b.closes_at is not null group by s.status
        union all
        select 'failed', count(*) from waemitter.buffer_processing_jobs where status = 'failed'
    """

    async def depth(self) -> dict[str, int]:
        """Buffers by status, but for those that are completed."""
        with outages():
            records = await self._pool.fetch(self.DEPTH)
        return {status: count for status, count in records}  # noqa: C416 a Record is no tuple to a type checker

    STUCK: Final = """
        select count(*) from (
          select id from waemitter.conversations where lock_id is not null
            and (lock_expires_at <= clock_timestamp() or locked_at < clock_timestamp() - interval '2 minutes')
          union
          select id from waemitter.conversations where status = 'processing' and lock_id is null
          union
          select conversation_id from waemitter.message_buffer where closes_at < clock_timestamp() - interval '2 minutes'
        ) stuck
    """

    async def stuck(self) -> int:
        """How many conversations stuck_webhook_conversations has, each found by an index."""
        with outages():
            stuck: int = await self._pool.fetchval(self.STUCK)
        return stuck


def _claimed(record: asyncpg.Record) -> Claimed:
    resume = record["resume"]
    return Claimed(
        hold=Hold(record["turn_id"], record["lock_id"], record["fence"]),
        conversation_id=record["conversation_id"],
        attempt=record["attempt"],
        channel=record["channel"],
        correlation_id=record["correlation_id"],
        contact=Contact(
            record["contact_id"],
            record["wa_id"],
            record["user_id"],
            record["phone"],
            record["name"],
        ),
        session=Session(record["active_service"], orjson.loads(record["context"])),
        flags=Flags(
            message_buffering=record["buffering"],
            enhanced_processing=record["enhanced"],
            response_quality_enhancement=record["quality"],
        ),
        messages=orjson.loads(record["messages"]),
        human=record["human"],
        superseded=record["superseded"],
        flushed_by=record["reason"],
        late=record["late"],
        resume=None if resume is None else _resumed(orjson.loads(resume)),
    )


def _session(session: Session) -> dict[str, Any]:
    return {"active_service": session.active_service, "context": dict(session.context)}


def _resumable(answer: Answer) -> str | None:
    """What can be kept of an answer that could not be committed; None when it is no JSON that a database takes."""
    try:
        text = _json(
            {
                "messages": [dict(message) for message in answer.messages],
                "session": None if answer.session is None else _session(answer.session),
                "handover": answer.handover,
                "desk": answer.desk,
            }
        )
    except TypeError:
        return None
    return None if r"\u0000" in text else text


def _resumed(document: Mapping[str, Any]) -> Answer:
    session = document["session"]
    return Answer(
        messages=document["messages"],
        session=None if session is None else Session(session["active_service"], session["context"]),
        handover=document["handover"],
        desk=document.get("desk"),
    )


def _json(document: object) -> str:
    return orjson.dumps(document).decode()
