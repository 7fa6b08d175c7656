"""A closed window becomes replies: routed, handled, and committed whole, by whoever holds the conversation's lock.

A handler never sends. What it answers goes into the outbox in the one transaction that ends the turn, fenced by the lock: so a
daemon that dies anywhere leaves a turn that another one finishes, and one that was only thought dead changes nothing.
"""

from __future__ import annotations

import asyncio
import dataclasses
import datetime
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple, Protocol, TypeAlias

from waemitter.errors import DatabaseUnreachable
from waemitter.observe.events import Events
from waemitter.runtime.due_loop import Claim
from waemitter.turns.handlers.chatwoot import forwards
from waemitter.turns.policy import Files, Policy
from waemitter.turns.routing import Decision, Facts, Router
from waemitter.turns.store import Claimed, Outcome, Terms, TurnStore
from waemitter.turns.turn import Answer, HandlerFailed, Turn
from waemitter.turns.words import joined

Stage: TypeAlias = Literal["route", "handler", "commit"]

NOBODY: Final = "none"
"""The route of a turn that nobody answers."""

SAMPLE_EVERY: Final = 10.0  # seconds, between two counts of the buffers
RENEWALS: Final = 3  # in one lease
TYPING_AFTER: Final = 0.5  # seconds: a quicker answer needs no dots, and the handler goes first


class Courtesy(Protocol):
    """Blue ticks and "typing…", which cost no send slot."""

    async def read(self, wamid: str, *, typing: bool) -> None:
        """Show the message as read, and that an answer is on its way. Never raises: who reads a reply does not miss either."""
        ...


class Ended(NamedTuple):
    """How a turn ended, and by which route."""

    route: str
    outcome: Outcome


class Lost(Exception):
    """The lock is somebody else's by now: nothing of this turn may be committed here."""


class Failed(Exception):
    """The turn has no answer, or one that could not be committed (`resume`)."""

    def __init__(
        self, stage: Stage, error: BaseException, *, retry: bool, resume: Answer | None = None
    ) -> None:
        super().__init__(f"{type(error).__name__}: {error}")
        self.stage = stage
        self.retry = retry
        self.resume = resume
        self.error_class = type(error).__name__
        expected = isinstance(error, HandlerFailed | TimeoutError)
        self.stack = None if expected else "".join(traceback.format_exception(error))
        self.route: str | None = None


class Worker:
    """A DueTable of turns."""

    def __init__(
        self,
        store: TurnStore,
        router: Router,
        *,
        courtesies: Mapping[str, Courtesy],
        events: Events,
        policy: Policy,
        clock: Callable[[], float],
        jitter: Callable[[], float],
        files: Files | None = None,
    ) -> None:
        """`courtesies`: by channel. `clock`: seconds, monotonic. `jitter()`: a factor near 1 for the waits before retries.

        `files`: who knows where they are; None: nobody fetches any.
        """
        self._store = store
        self._router = router
        self._courtesies = courtesies
        self._events = events
        self._policy = policy
        self._files = files
        self._clock = clock
        self._jitter = jitter
        self._lease = datetime.timedelta(seconds=policy.lease)
        self._ttl = datetime.timedelta(seconds=policy.session_ttl)
        self._terms = Terms(
            self._ttl,
            datetime.timedelta(seconds=policy.takeover),
            policy.most_superseded,
            policy.default_desk,
            policy.transcript,
        )
        self._sampled = -SAMPLE_EVERY

    async def claim(self, limit: int) -> Claim[Claimed]:
        claims = await self._store.claim(limit, lease=self._lease, ttl=self._ttl)
        self._events.database_back()
        for turn in claims.turns:
            self._flushed(turn)
        if self._clock() - self._sampled >= SAMPLE_EVERY:
            self._sampled = self._clock()
            self._events.buffers_sampled(await self._store.depth(), stuck=await self._store.stuck())
        return Claim(claims.turns, claims.next_due)

    async def release(self, rows: Sequence[Claimed]) -> None:
        for turn in rows:
            try:
                await self._store.retry(
                    turn.hold, delay=datetime.timedelta(), error=None, counted=False
                )
            except DatabaseUnreachable as error:
                self._events.database_lost(error=str(error))  # their leases end

    async def work(self, row: Claimed) -> None:
        started = self._clock()
        try:
            result = await self._attempt(row)
            took = self._clock() - started
            if isinstance(result, Failed):
                await self._fail(row, result, took=took)
            else:
                self._ended(row, result, took=took)
        except DatabaseUnreachable as error:
            self._events.database_lost(
                error=str(error)
            )  # the lease ends, and somebody does it anew

    async def redo(self, turn_id: int) -> bool:
        """Work on a failed turn at once, for its dead letter: from the stage at which it failed.

        False: it is no failed turn any more, so there is nothing to do. Raises HandlerFailed when it failed once more, or
        its conversation is at work; and DatabaseUnreachable.
        """
        if not await self._store.redo(turn_id):
            return False
        claims = await self._store.claim(1, lease=self._lease, ttl=self._ttl, only=turn_id)
        if not claims.turns:
            await self._store.leave(turn_id)
            raise HandlerFailed("its conversation is at work", retry=True)
        turn = dataclasses.replace(claims.turns[0], attempt=1)
        started = self._clock()
        result = await self._attempt(turn)
        took = self._clock() - started
        if isinstance(result, Failed):
            await self._bury(turn, result, took=took)
            raise HandlerFailed(str(result), retry=result.retry)
        self._ended(turn, result, took=took)
        if result.outcome == "lost":
            raise HandlerFailed("another worker has taken it", retry=True)
        return True

    async def _attempt(self, claimed: Claimed) -> Ended | Failed:
        """Raises DatabaseUnreachable; anything else is a bug."""
        outage: DatabaseUnreachable
        async with asyncio.TaskGroup() as courtesies:  # they may take longer than the answer
            try:
                return await self._turn(claimed, courtesies)
            except Failed as failure:
                return failure
            except Lost:
                return Ended(NOBODY, "lost")
            except DatabaseUnreachable as error:
                outage = error
        raise outage

    async def _turn(self, claimed: Claimed, courtesies: asyncio.TaskGroup) -> Ended:
        """Raises Failed, Lost, or DatabaseUnreachable."""
        if claimed.human:
            return await self._commit(claimed, NOBODY, Answer())
        if claimed.attempt > self._policy.max_attempts:  # each of those who tried has died
            raise Failed("handler", HandlerFailed("its daemons died", retry=False), retry=False)
        text = joined(claimed.messages)
        decision = self._decide(claimed, text)
        if decision is None:
            return await self._commit(claimed, NOBODY, Answer())
        self._events.route_decided(
            turn_id=claimed.hold.turn_id,
            route=decision.route,
            reason=decision.reason,
            correlation_id=claimed.correlation_id,
        )
        try:
            answer = claimed.resume
            if answer is None:
                answered = asyncio.Event()
                courtesies.create_task(self._show_work(claimed, answered))
                try:
                    claimed = await self._with_files(claimed)
                    answer = await self._ask(claimed, decision, text)
                finally:
                    answered.set()
            discard = decision.supersede == "discard" and self._enhanced(claimed)
            return await self._commit(claimed, decision.route, answer, discard=discard)
        except Failed as failure:
            failure.route = decision.route
            raise

    async def _with_files(self, claimed: Claimed) -> Claimed:
        if self._files is None:
            return claimed
        told = await self._files.told(claimed.channel, claimed.messages)
        return dataclasses.replace(claimed, messages=told)

    def _enhanced(self, claimed: Claimed) -> bool:
        given = self._policy.enhanced
        return claimed.flags.enhanced_processing if given is None else given

    def _decide(self, claimed: Claimed, text: str) -> Decision | None:
        facts = Facts(
            channel=claimed.channel,
            conversation_id=claimed.conversation_id,
            contact=claimed.contact,
            text=text,
            messages=claimed.messages,
        )
        flags = dataclasses.replace(claimed.flags, enhanced_processing=self._enhanced(claimed))
        try:
            return self._router.decide(facts, claimed.session, flags)
        except Exception as error:
            raise Failed("route", error, retry=False) from error

    async def _ask(self, claimed: Claimed, decision: Decision, text: str) -> Answer:
        turn = Turn(
            turn_id=claimed.hold.turn_id,
            attempt=claimed.attempt,
            channel=claimed.channel,
            route=decision.route,
            conversation_id=claimed.conversation_id,
            contact=claimed.contact,
            session=decision.session_before(claimed.session),
            text=text,
            messages=claimed.messages,
            correlation_id=claimed.correlation_id,
        )
        lock = _Lock()
        problem: Exception
        try:
            async with asyncio.timeout(self._policy.timeout) as limit, asyncio.TaskGroup() as group:
                keeping = group.create_task(self._keep(claimed, lock, limit))
                try:
                    answer = await decision.handler.handle(turn)
                    session = decision.session_after(claimed.session, answer.session)
                    return dataclasses.replace(answer, session=session)
                except Exception as error:  # noqa: BLE001 whatever a handler raises, the turn has an end
                    problem = error
                finally:
                    keeping.cancel()
        except TimeoutError as error:
            if lock.lost:
                raise Lost from None
            late = TimeoutError(f"no answer within {self._policy.timeout:g} s")
            raise Failed("handler", late, retry=True) from error
        retry = problem.retry if isinstance(problem, HandlerFailed) else False
        raise Failed("handler", problem, retry=retry or isinstance(problem, TimeoutError))

    async def _keep(self, claimed: Claimed, lock: _Lock, limit: asyncio.Timeout) -> None:
        """Renew the lock as long as the handler works; when it is lost, the handler is cancelled."""
        while True:
            await asyncio.sleep(self._policy.lease / RENEWALS)
            try:
                held = await self._store.renew(claimed.hold, lease=self._lease)
            except DatabaseUnreachable as error:
                self._events.database_lost(error=str(error))  # the commit will tell whose it is
                continue
            if not held:
                lock.lost = True
                limit.reschedule(asyncio.get_running_loop().time())
                return

    async def _show_work(self, claimed: Claimed, answered: asyncio.Event) -> None:
        courtesy = self._courtesies.get(claimed.channel)
        wamid = claimed.messages[-1].get("id") if claimed.messages else None
        if courtesy is None or not isinstance(wamid, str):
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(TYPING_AFTER):
                await answered.wait()
        await courtesy.read(wamid, typing=not answered.is_set())

    async def _commit(
        self, claimed: Claimed, route: str, answer: Answer, *, discard: bool = False
    ) -> Ended:
        try:
            outcome = await self._store.commit(
                claimed.hold,
                answer,
                route=route,
                before=claimed.session,
                discard=discard,
                terms=self._terms,
                forwards=forwards(claimed.channel, claimed.messages) if self._policy.desks else (),
            )
        except DatabaseUnreachable:
            raise
        except Exception as error:
            raise Failed("commit", error, retry=False, resume=answer) from error
        if outcome == "lost":
            raise Lost
        return Ended(route, outcome)

    async def _fail(self, claimed: Claimed, failure: Failed, *, took: float) -> None:
        attempt = claimed.attempt
        if not failure.retry or attempt >= self._policy.max_attempts:
            await self._bury(claimed, failure, took=took)
            return
        delays = self._policy.retry_delays
        delay = delays[min(attempt, len(delays)) - 1] * self._jitter()
        held = await self._store.retry(
            claimed.hold, delay=datetime.timedelta(seconds=delay), error=str(failure), counted=True
        )
        route = failure.route or NOBODY
        if not held:
            self._ended(claimed, Ended(route, "lost"), took=took)
            return
        self._events.turn_retried(
            turn_id=claimed.hold.turn_id,
            route=route,
            stage=failure.stage,
            error=failure.error_class,
            attempt=attempt,
            delay=delay,
            correlation_id=claimed.correlation_id,
        )

    async def _bury(self, claimed: Claimed, failure: Failed, *, took: float) -> None:
        letter = await self._store.bury(
            claimed.hold,
            route=failure.route,
            stage=failure.stage,
            error=str(failure),
            error_class=failure.error_class,
            stack=failure.stack,
            resume=failure.resume,
            retry_in=datetime.timedelta(seconds=self._policy.letter_delay),
        )
        route = failure.route or NOBODY
        if letter is None:
            self._ended(claimed, Ended(route, "lost"), took=took)
            return
        self._events.turn_failed(
            turn_id=claimed.hold.turn_id,
            route=route,
            stage=failure.stage,
            error=failure.error_class,
            letter_id=letter,
            took=took,
            correlation_id=claimed.correlation_id,
        )

    def _flushed(self, claimed: Claimed) -> None:
        if claimed.attempt == 1:
            self._events.buffer_flushed(
                turn_id=claimed.hold.turn_id,
                conversation_id=claimed.conversation_id,
                reason=claimed.flushed_by,
                messages=len(claimed.messages),
                late=claimed.late,
                correlation_id=claimed.correlation_id,
            )

    def _ended(self, claimed: Claimed, ended: Ended, *, took: float) -> None:
        self._events.turn_ended(
            turn_id=claimed.hold.turn_id,
            route=ended.route,
            outcome=ended.outcome,
            attempt=claimed.attempt,
            took=took,
            correlation_id=claimed.correlation_id,
        )


@dataclass(slots=True)
class _Lock:
    lost: bool = False
