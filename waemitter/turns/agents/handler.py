"""A turn that an agent answers: budget, memory, the model, and what is said when it does not answer."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, Literal, Protocol, TypeAlias

from waemitter.errors import DatabaseUnreachable
from waemitter.turns.agents.agent import Agent, Unanswered
from waemitter.turns.agents.agent import Observer as AgentObserver
from waemitter.turns.agents.context import Memory, said
from waemitter.turns.agents.formatting import split, whatsapp
from waemitter.turns.agents.pictures import Pictures
from waemitter.turns.agents.spec import Spec, Variant
from waemitter.turns.agents.store import AgentStore, Ended, Refusal
from waemitter.turns.agents.toolbox import errand_of
from waemitter.turns.agents.variants import chosen
from waemitter.turns.turn import Answer, HandlerFailed, Turn

Instead: TypeAlias = Literal["text", "handover", "none"]

REFUSAL: Final = "I cannot answer any more today. Please write again tomorrow."


class Observer(AgentObserver, Protocol):
    """Is told of each turn's outcome."""

    def agent_answered(
        self, *, agent: str, conversation_id: int, variant: str, took: float, dropped: int
    ) -> None: ...

    def agent_unanswered(
        self, *, agent: str, conversation_id: int, failure: str, reason: str, instead: Instead
    ) -> None: ...

    def agent_over_budget(self, *, agent: str, conversation_id: int, budget: Refusal) -> None: ...


class AgentHandler:
    """The handler `agent` of one agent. `clock` in seconds, monotonic."""

    def __init__(
        self,
        agent: Agent,
        store: AgentStore,
        *,
        observer: Observer,
        clock: Callable[[], float],
        pictures: Pictures | None = None,
    ) -> None:
        """`pictures`: the images of customers, for a model that can see."""
        self._agent = agent
        self._spec: Spec = agent.spec
        self._store = store
        self._observer = observer
        self._clock = clock
        self._pictures = pictures

    async def handle(self, turn: Turn) -> Answer:
        """Raises HandlerFailed, to be tried again, when there is neither a reply nor a fallback."""
        try:
            return await self._handle(turn)
        except DatabaseUnreachable as error:
            raise HandlerFailed(str(error), retry=True) from None

    async def _handle(self, turn: Turn) -> Answer:
        spec, began = self._spec, self._clock()
        variant = variant_of(spec, turn.contact.id)
        memory = await self._store.load(spec.name, turn.contact.id, turn_id=turn.turn_id)
        heard = said(turn.messages) or turn.text
        images = await self._pictures.of(turn.messages) if self._pictures is not None else []
        session, refusal = await self._store.begin(
            turn,
            agent=spec.name,
            variant=variant,
            estimate=self._agent.estimate(variant, memory, heard, images),
            per_day=spec.tokens_per_day,
            per_contact=spec.tokens_per_contact,
        )
        if refusal is not None:
            self._observer.agent_over_budget(
                agent=spec.name, conversation_id=turn.conversation_id, budget=refusal
            )
            return Answer(messages=texts(spec.refusal_text or REFUSAL))
        ended = Ended(session=session, variant=variant, heard=heard, images=images)
        try:
            return await self._answer(turn, memory, ended, began)
        except Unanswered as failure:
            return self._fallback(turn, failure, ended)
        finally:
            with suppress(DatabaseUnreachable):
                await self._store.end(turn, ended, took=self._clock() - began)

    async def _answer(self, turn: Turn, memory: Memory, ended: Ended, began: float) -> Answer:
        spec, deadline = self._spec, began + self._spec.timeout
        prepared = await self._agent.prepare(
            ended.variant,
            memory,
            ended.heard,
            bill=ended.bill,
            deadline=deadline,
            images=ended.images,
        )
        ended.summary = prepared.summary
        review = spec.review is not None and await self._store.reviews(turn.contact.id)
        reply = await self._agent.reply(
            prepared, errand_of(turn), review=review, bill=ended.bill, deadline=deadline
        )
        ended.outcome, ended.said, ended.handover = "answered", reply.text, reply.handover
        self._observer.agent_answered(
            agent=spec.name,
            conversation_id=turn.conversation_id,
            variant=ended.variant.name,
            took=self._clock() - began,
            dropped=prepared.context.dropped,
        )
        return Answer(messages=texts(reply.text), handover=reply.handover)

    def _fallback(self, turn: Turn, failure: Unanswered, ended: Ended) -> Answer:
        """What is said, and done, instead of a reply. Raises HandlerFailed when nothing is configured."""
        spec = self._spec
        text, handover = spec.fallback_text, spec.handover_on_failure
        instead: Instead = "handover" if handover else "text" if text else "none"
        ended.outcome = "failed" if instead == "none" else "fallback"
        ended.handover, ended.error = handover, f"{failure.failure}: {failure}"
        self._observer.agent_unanswered(
            agent=spec.name,
            conversation_id=turn.conversation_id,
            failure=failure.failure,
            reason=str(failure),
            instead=instead,
        )
        if instead == "none":
            raise HandlerFailed(
                f"agent {spec.name}: {failure}", retry=failure.failure != "refused"
            ) from None
        return Answer(messages=texts(text or ""), handover=handover)


def variant_of(spec: Spec, contact_id: int) -> Variant:
    """The contact's variant of the agent, always the same."""
    name = chosen(spec.name, contact_id, [(each.name, each.weight) for each in spec.variants])
    return next(each for each in spec.variants if each.name == name)


def texts(markdown: str) -> list[dict[str, Any]]:
    """The messages to send for a model's words: none for no words."""
    return [{"type": "text", "text": {"body": piece}} for piece in split(whatsapp(markdown))]
