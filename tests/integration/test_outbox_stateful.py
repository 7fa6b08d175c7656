"""The outbox as a machine: whatever is done to it, in whatever order, its invariants hold, and in the end nothing is stuck."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from typing import Any, Final, TypeVar

import asyncpg
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)
from typing_extensions import override

from tests.outbox_rows import RECEIVING, Outbox, ago, ahead, now, outbox_at, status
from waemitter.outbox.message import Attempt
from waemitter.outbox.retry import Outcome

T = TypeVar("T")

EXAMPLES: Final = int(os.environ.get("STATEFUL_EXAMPLES") or 25)
RANK: Final = {"sent": 2, "failed": 3, "delivered": 4, "read": 5}
LANES: Final = ("", "a", "b")
WORDS: Final = ("sent", "delivered", "read", "failed")
ENDS: Final = {"failed", "cancelled", "expired", "suppressed"}
TABLES: Final = """
    truncate waemitter.outbox_messages, waemitter.outbox_attempts, waemitter.outbox_transitions, waemitter.outbox_pairs,
      waemitter.parked_statuses, waemitter.held_templates, waemitter.dead_letters
"""
TWO_OF_A_LANE: Final = """
    select lane, array_agg(id) from waemitter.outbox_messages
    where lane <> '' and (status = 'sending' or (status = 'unconfirmed' and hold is null))
    group by 1 having count(*) > 1
"""
PARKED_FOR_NOBODY: Final = """
    select id from waemitter.outbox_messages o where hold = 'lane' and not exists (
      select from waemitter.outbox_messages b
      where b.lane = o.lane and b.id <> o.id and b.available_at is not null and b.hold is distinct from 'unconfirmed')
"""
OLDER: Final = """
    select id from waemitter.outbox_messages
    where lane = $1 and id < $2 and status = 'queued' and claimed_at is null and hold is null
      and available_at <= clock_timestamp() and (expires_at is null or expires_at > clock_timestamp())
"""
RELEASED_FROM_TIME: Final = """
    update waemitter.outbox_messages set available_at = clock_timestamp()
    where available_at > clock_timestamp() and available_at <> 'infinity'
"""


class OutboxMachine(RuleBasedStateMachine):
    """Time passes by moving rows; every claim, settle and status goes through the real functions."""

    dsn = ""
    messages: Bundle[int] = Bundle("messages")
    attempts: Bundle[Attempt] = Bundle("attempts")

    def __init__(self) -> None:
        super().__init__()
        self._runner = asyncio.Runner()
        self._stack = AsyncExitStack()
        self._arrived: dict[int, int] = {}  # the highest rank that a status told of each message
        self._cancelled: set[int] = set()
        self._never_left: set[int] = (
            set()
        )  # tokens of attempts that were given back before they left
        self._outbox: Outbox

    def _run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self._runner.run(coroutine)

    @initialize(target=messages, lanes=st.lists(st.sampled_from(LANES), min_size=2, max_size=5))
    def begin(self, lanes: list[str]) -> Any:
        """With rows at once: by the other rules alone, two of a lane seldom wait for the same claim."""
        self._outbox = self._run(self._stack.enter_async_context(outbox_at(self.dsn)))
        self._run(self._outbox.pool.execute(TABLES))
        self._run(self._outbox.pool.execute(RECEIVING))
        self._run(self._outbox.channel(statuses_seen_at=now(), statuses_until=None))
        return multiple(*(self._run(self._outbox.put(ordering_key=lane)) for lane in lanes))

    @override
    def teardown(self) -> None:
        try:
            if hasattr(self, "_outbox"):
                self._run(self._drain())
        finally:
            self._run(self._stack.aclose())
            self._runner.close()

    async def _row(self, message_id: int) -> asyncpg.Record:
        return await self._outbox.row(message_id)

    @rule(
        target=messages,
        lane=st.sampled_from(LANES),
        priority=st.sampled_from([0, 0, 5]),
        kind=st.sampled_from(["text", "template"]),
        policy=st.sampled_from([None, "retry", "hold"]),
    )
    def put(self, lane: str, priority: int, kind: str, policy: str | None) -> int:
        columns: dict[str, Any] = {"ordering_key": lane, "priority": priority}
        columns["unconfirmed_policy"] = policy
        if kind == "template":
            columns |= {"message_type": kind, "payload": '{"template": {"name": "t"}}'}
        return self._run(self._outbox.put(**columns))

    @rule(target=attempts, limit=st.integers(1, 3))
    def claim(self, limit: int) -> Any:
        return multiple(*self._run(self._claim(limit)))

    async def _claim(self, limit: int) -> list[Attempt]:
        records = await self._outbox.pool.fetch("select * from waemitter.outbox_messages")
        before = {row["id"]: row for row in records}
        claimed = await self._outbox.claim(limit)
        for attempt in claimed.attempts:
            row = before[attempt.id]
            assert row["status"] in {"queued", "unconfirmed"}, row
            assert attempt.id not in self._cancelled
            assert self._arrived.get(attempt.id, 0) < RANK["delivered"], "it had arrived"
            assert attempt.token != row["token"]
            if row["lane"] and row["claimed_at"] is None:
                older = await self._outbox.pool.fetch(OLDER, row["lane"], attempt.id)
                assert not older, f"{attempt.id} before {older}"
        return claimed.attempts

    @rule(
        attempt=attempts, outcome=st.sampled_from(list(Outcome)), delay=st.sampled_from([0.0, 60.0])
    )
    def settle(self, attempt: Attempt, outcome: Outcome, delay: float) -> None:
        """Of any attempt there ever was: a stale one changes nothing."""
        before = self._run(self._row(attempt.id))
        settled = self._run(self._outbox.settle(attempt, outcome, delay=delay))
        after = self._run(self._row(attempt.id))
        if after["claimed_at"] is None and attempt.id not in settled.stale:
            self._never_left.add(attempt.token)
        if before["token"] != attempt.token or before["status"] not in {
            "sending",
            "unconfirmed",
            *RANK,
            *ENDS,
        }:
            if outcome not in {Outcome.SENT, Outcome.DRY_RUN}:
                assert dict(before) == dict(after)
            if before["token"] != attempt.token:
                assert dict(before) == dict(after)
                assert settled.stale == [attempt.id]
        if before["status"] in RANK:
            assert RANK.get(after["status"], 0) >= RANK[before["status"]]

    @rule(attempt=attempts, word=st.sampled_from(WORDS))
    def hear(self, attempt: Attempt, word: str) -> None:
        if attempt.token in self._never_left:  # Meta cannot tell of what it never had
            return
        before = self._run(self._row(attempt.id))
        wamid = f"wamid.{attempt.id}.{attempt.number}"
        self._run(self._outbox.apply(status(word, attempt, wamid=wamid)))
        after = self._run(self._row(attempt.id))
        assert RANK.get(after["status"], 0) >= RANK.get(before["status"], 0)
        if word in {"delivered", "read"}:
            assert RANK[after["status"]] >= RANK[word]
            assert after["available_at"] is None
            self._arrived[attempt.id] = max(self._arrived.get(attempt.id, 0), RANK[word])

    @rule(message=messages)
    def time_passes(self, message: int) -> None:
        """The row's lease, grace or delay is over."""
        row = self._run(self._row(message))
        if row["available_at"] is not None and row["hold"] in {None, "pair"}:
            self._run(self._outbox.change(message, available_at=ago(1)))

    @rule(message=messages)
    def expire(self, message: int) -> None:
        self._run(self._outbox.change(message, expires_at=ago(1)))

    @rule(message=messages)
    def postpone(self, message: int) -> None:
        row = self._run(self._row(message))
        if row["status"] == "queued" and row["hold"] is None:
            self._run(self._outbox.change(message, available_at=ahead(3600)))

    @rule(message=messages)
    def cancel(self, message: int) -> None:
        before = self._run(self._row(message))
        took = self._run(self._call("select waemitter.cancel_message($1)", message))
        after = self._run(self._row(message))
        assert took == (after["status"] == "cancelled" != before["status"])
        if took:
            self._cancelled.add(message)
        else:
            assert dict(before) == dict(after)

    @rule(message=messages)
    def retry(self, message: int) -> None:
        before = self._run(self._row(message))
        took = self._run(self._call("select waemitter.retry_message($1)", message))
        if took:
            assert before["status"] in ENDS or before["hold"] == "unconfirmed"
            self._cancelled.discard(message)
            self._run(self._outbox.change(message, expires_at=None))

    @rule()
    def hold_the_template(self) -> None:
        self._run(self._call("select waemitter.hold_template('default', 't')"))

    @rule()
    def release_the_template(self) -> None:
        self._run(self._call("select waemitter.release_template('default', 't')"))

    @rule(attempt=consumes(attempts))
    def forget(self, attempt: Attempt) -> None:
        """The daemon died with it."""

    async def _call(self, statement: str, *arguments: Any) -> Any:
        return await self._outbox.pool.fetchval(statement, *arguments)

    @invariant()
    def one_of_a_lane_at_a_time(self) -> None:
        if hasattr(self, "_outbox"):
            assert not self._run(self._outbox.pool.fetch(TWO_OF_A_LANE))

    @invariant()
    def what_is_parked_waits_for_somebody(self) -> None:
        if hasattr(self, "_outbox"):
            assert not self._run(self._outbox.pool.fetch(PARKED_FOR_NOBODY))

    async def _drain(self) -> None:
        """With all barriers gone, whatever is left goes out, or is held for a person."""
        await self._call("select waemitter.release_template('default', 't')")
        for _ in range(40):
            await self._outbox.pool.execute(RELEASED_FROM_TIME)
            attempts = await self._claim(100)
            if attempts:
                await self._outbox.settle_all(attempts)
        left = await self._outbox.pool.fetch(
            "select id, status, hold, lane from waemitter.outbox_messages"
            " where available_at is not null and hold is distinct from 'unconfirmed'"
        )
        assert not left, left
        for message, rank in self._arrived.items():
            assert RANK[(await self._row(message))["status"]] >= rank


def test_whatever_is_done_to_the_outbox_its_invariants_hold(dsn: str) -> None:
    class Here(OutboxMachine):
        pass

    Here.dsn = dsn
    run_state_machine_as_test(
        Here,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=30,
            deadline=None,
            phases=(Phase.explicit, Phase.generate),  # on a database, to shrink takes minutes
            suppress_health_check=list(HealthCheck),
        ),
    )
