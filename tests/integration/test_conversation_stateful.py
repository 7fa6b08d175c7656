"""Conversations as a machine: whatever is done to them, in whatever order, no message is lost and none is answered twice."""

from __future__ import annotations

import asyncio
import datetime
import os
import uuid
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from typing import Any, Final, TypeVar

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)
from typing_extensions import override

from tests.talks import CLOSE, EVERYTHING_IS_DUE, LEASE, LEASE_ENDS, RETRY_COMES, Talks, talks_at
from waemitter.turns.store import Claimed

T = TypeVar("T")

EXAMPLES: Final = int(os.environ.get("STATEFUL_EXAMPLES") or 15)
ROUNDS: Final = 60  # of a drain that must have come to its end by then
NOTHING: Final = datetime.timedelta(0)

talker = st.integers(0, 1)
chance = st.booleans()


class ConversationMachine(RuleBasedStateMachine):
    """Time passes by moving rows; every window, claim and end of a turn goes through the real functions."""

    dsn = ""
    claims: Bundle[Claimed] = Bundle("claims")
    locks: Bundle[tuple[int, uuid.UUID]] = Bundle("locks")

    def __init__(self) -> None:
        super().__init__()
        self._runner = asyncio.Runner()
        self._stack = AsyncExitStack()
        self._talks: Talks
        self._fences: dict[int, int] = {}
        self._answers: dict[int, int] = {}  # replies of each turn that was committed
        self._claimed: list[Claimed] = []

    def _run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self._runner.run(coroutine)

    def _call(self, statement: str, *arguments: object) -> Any:
        return self._run(self._talks.value(statement, *arguments))

    def _id(self, place: int) -> int:
        return self._talks.conversations[place]

    @initialize()
    def begin(self) -> None:
        self._talks = self._run(self._stack.enter_async_context(talks_at(self.dsn)))

    @override
    def teardown(self) -> None:
        try:
            if hasattr(self, "_talks"):
                self._run(self._drain())
        finally:
            self._run(self._stack.aclose())
            self._runner.close()

    @rule(
        who=talker,
        count=st.integers(1, 3),
        size=st.sampled_from([2, 50]),
        kinds=st.tuples(chance, chance),
    )
    def hear(self, who: int, count: int, size: int, kinds: tuple[bool, bool]) -> None:
        sliding, at_once = kinds
        self._run(
            self._talks.hear(self._id(who), count, size=size, sliding=sliding, at_once=at_once)
        )

    @rule(who=talker)
    def the_window_closes(self, who: int) -> None:
        self._call(CLOSE, self._id(who))

    @rule(who=talker)
    def the_time_of_a_retry_comes(self, who: int) -> None:
        self._call(RETRY_COMES, self._id(who))

    @rule(who=talker)
    def the_lease_ends(self, who: int) -> None:
        """Whoever had the lock is dead, or slower than his lease."""
        self._call(LEASE_ENDS, self._id(who))

    @rule(target=claims, limit=st.integers(1, 3), closed=chance)
    def claim(self, limit: int, *, closed: bool) -> Any:
        """`closed`: as soon as every window has."""
        if closed:
            for conversation in self._talks.conversations:
                self._call(CLOSE, conversation)
        return multiple(*self._run(self._claim(limit)))

    async def _claim(self, limit: int, only: int | None = None) -> list[Claimed]:
        talks = self._talks
        before = {each: await talks.conversation(each) for each in talks.conversations}
        unfinished = [row for row in await talks.buffers() if row["closes_at"] is not None]
        claimed = list(await talks.claim(limit, only=only))
        assert len({each.conversation_id for each in claimed}) == len(claimed)
        for each in claimed:
            turn, conversation = each.hold.turn_id, each.conversation_id
            assert not before[conversation]["held"], "somebody else is at work"
            oldest = next(row for row in unfinished if row["conversation_id"] == conversation)
            assert turn == oldest["id"], "an older turn is unfinished"
            assert each.hold.fence > self._fences.get(conversation, 0)
            self._fences[conversation] = each.hold.fence
            assert turn not in self._answers, "it was answered"
            assert sorted(message["id"] for message in each.messages) == oldest["wamids"]
            assert each.human == before[conversation]["human"]
        self._claimed += claimed
        return claimed

    @rule(claimed=claims)
    def renew(self, claimed: Claimed) -> None:
        holds = self._run(self._talks.holds(claimed.hold))
        before = self._run(self._talks.everything())
        assert self._run(self._talks.turns.renew(claimed.hold, lease=LEASE)) == holds
        assert holds or before == self._run(self._talks.everything())

    @rule(claimed=claims, replies=st.integers(0, 2), discard=chance, handover=chance)
    def commit(self, claimed: Claimed, replies: int, *, discard: bool, handover: bool) -> None:
        self._run(self._commit(claimed, replies, discard=discard, handover=handover))

    @rule(at_once=chance)
    def more_is_written_and_the_answers_dropped(self, *, at_once: bool) -> None:
        self._run(self._interrupt(at_once=at_once))

    async def _interrupt(self, *, at_once: bool) -> None:
        for claimed in list(self._claimed):
            if await self._talks.holds(claimed.hold):
                conversation = claimed.conversation_id
                await self._talks.hear(conversation, 1, size=50, sliding=False, at_once=at_once)
                await self._commit(claimed, 1, discard=True)

    async def _commit(
        self, claimed: Claimed, replies: int, *, discard: bool = False, handover: bool = False
    ) -> None:
        talks, turn = self._talks, claimed.hold.turn_id
        holds, before = await talks.holds(claimed.hold), await talks.everything()
        human = (await talks.conversation(claimed.conversation_id))["human"]
        outcome = await talks.commit(claimed, replies, discard=discard, handover=handover)
        assert (outcome == "lost") == (not holds)
        if not holds:
            assert before == await talks.everything()
        elif outcome == "superseded":
            assert discard
            assert not human
            assert turn in {row["id"] for row in await talks.buffers() if row["closes_at"]}
        else:
            assert (outcome == "human") == human
            self._answers[turn] = 0 if human else replies
        assert await talks.replies() == {key: n for key, n in self._answers.items() if n}

    @rule(claimed=claims, delay=st.sampled_from([0, 60]), counted=chance)
    def retry(self, claimed: Claimed, delay: int, *, counted: bool) -> None:
        holds = self._run(self._talks.holds(claimed.hold))
        before = self._run(self._talks.everything())
        again = self._talks.turns.retry(
            claimed.hold, delay=datetime.timedelta(seconds=delay), error="no", counted=counted
        )
        assert self._run(again) == holds
        assert holds or before == self._run(self._talks.everything())

    @rule(claimed=claims)
    def bury(self, claimed: Claimed) -> None:
        holds = self._run(self._talks.holds(claimed.hold))
        before = self._run(self._talks.everything())
        buried = self._talks.turns.bury(
            claimed.hold,
            route="r",
            stage="handle",
            error="no",
            error_class="ValueError",
            stack=None,
            resume=None,
            retry_in=NOTHING,
        )
        assert (self._run(buried) is not None) == holds
        assert holds or before == self._run(self._talks.everything())

    @rule(target=claims)
    def redo_what_failed(self) -> Any:
        """As the dead letters' processor does."""
        return multiple(*self._run(self._redo()))

    async def _redo(self) -> list[Claimed]:
        found: list[Claimed] = []
        for row in await self._talks.buffers():
            if row["status"] == "failed" and await self._talks.turns.redo(row["id"]):
                claimed = await self._claim(1, only=row["id"])
                if not claimed:
                    await self._talks.turns.leave(row["id"])
                found += claimed
        return found

    @rule(who=talker, takeover=st.sampled_from([None, LEASE]))
    def a_person_takes_over(self, who: int, takeover: datetime.timedelta | None) -> None:
        self._call("select waemitter.take_over_conversation($1, $2)", self._id(who), takeover)
        assert self._run(self._talks.conversation(self._id(who)))["human"]

    @rule(who=talker)
    def a_person_hands_back(self, who: int) -> None:
        human = self._run(self._talks.conversation(self._id(who)))["human"]
        took = self._call("select waemitter.hand_back_conversation($1)", self._id(who))
        assert took == human

    @rule(target=locks, who=talker)
    def a_script_takes_the_lock(self, who: int) -> tuple[int, uuid.UUID]:
        conversation, lock = self._id(who), uuid.uuid4()
        held = self._run(self._talks.conversation(conversation))["held"]
        assert self._run(self._talks.acquire(conversation, lock)) == (not held)
        fence = self._run(self._talks.conversation(conversation))["fence"]
        assert fence >= self._fences.get(conversation, 0)
        return conversation, lock

    @rule(held=locks)
    def a_script_frees_the_lock(self, held: tuple[int, uuid.UUID]) -> None:
        conversation, lock = held
        mine = self._run(self._talks.conversation(conversation))["lock_id"] == lock
        assert self._run(self._talks.release(conversation, lock)) == mine

    @rule(who=talker)
    def an_operator_unlocks(self, who: int) -> None:
        self._call("select waemitter.unlock_conversation($1)", self._id(who))
        assert not self._run(self._talks.conversation(self._id(who)))["held"]

    @rule()
    def what_is_stuck_is_cleaned_up(self) -> None:
        self._call("select waemitter.cleanup_stuck_webhook_conversations()")

    @rule(enabled=chance)
    def an_operator_turns_the_switch(self, *, enabled: bool) -> None:
        self._call("select waemitter.toggle_buffer_processing($1)", enabled)

    @rule()
    def an_operator_closes_every_window(self) -> None:
        self._call("select waemitter.trigger_buffer_processing()")

    @invariant()
    def every_message_is_in_one_window(self) -> None:
        if hasattr(self, "_talks"):
            buffers = self._run(self._talks.buffers())
            there = [(wamid, row["conversation_id"]) for row in buffers for wamid in row["wamids"]]
            assert sorted(there) == sorted(self._talks.heard.items())
            assert all(row["message_count"] == len(row["wamids"]) for row in buffers)

    @invariant()
    def what_is_unfinished_is_due_some_day_and_what_waits_waits_for_somebody(self) -> None:
        if not hasattr(self, "_talks"):
            return
        older: dict[int, bool] = {}
        for row in self._run(self._talks.buffers()):
            unfinished = row["status"] in {"open", "processing"}
            assert unfinished == (row["closes_at"] is not None), row
            if row["waits"]:
                conversation = self._run(self._talks.conversation(row["conversation_id"]))
                assert conversation["lock_id"] or older.get(row["conversation_id"]), row
            older[row["conversation_id"]] = older.get(row["conversation_id"], False) or unfinished

    async def _drain(self) -> None:
        """With everything in order again, each turn ends, and each message was worked on once."""
        talks = self._talks
        await talks.value("select waemitter.toggle_buffer_processing(true)")
        for conversation in talks.conversations:
            await talks.value("select waemitter.hand_back_conversation($1)", conversation)
            await talks.value(LEASE_ENDS, conversation)
        await talks.value(EVERYTHING_IS_DUE)
        await self._claim(10)
        await self._interrupt(at_once=False)
        for _ in range(ROUNDS):
            await talks.value(EVERYTHING_IS_DUE)
            for claimed in [*await self._claim(10), *await self._redo()]:
                await self._commit(claimed, 1)
            if all(row["status"] == "completed" for row in await talks.buffers()):
                break
        left = [row for row in await talks.buffers() if row["status"] != "completed"]
        assert not left, left
        assert set(self._answers) == {row["id"] for row in await talks.buffers()}
        await talks.value("select waemitter.cleanup_stuck_webhook_conversations()")
        for conversation in talks.conversations:
            row = await talks.conversation(conversation)
            assert (row["status"], row["lock_id"]) == ("idle", None), row
        for claimed in self._claimed:
            await self._commit(claimed, 1)
        assert not await talks.value(
            "select count(*) from waemitter.dead_letters where resolution_status <> 'resolved'"
        )


def test_whatever_is_done_to_conversations_their_invariants_hold(dsn: str) -> None:
    class Here(ConversationMachine):
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
