"""One reply: what the model is shown, the requests and their retries, and a second look at the draft."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, Protocol, TypeAlias

from waemitter.runtime.circuits import Circuit, CircuitOpen
from waemitter.turns.agents.context import Context, Entry, Memory, Message, build
from waemitter.turns.agents.provider import (
    Completion,
    Fault,
    Provider,
    ProviderFailed,
    ProviderRefused,
    Request,
    described,
)
from waemitter.turns.agents.spec import Review, Spec, Variant
from waemitter.turns.agents.tokens import calibrated, estimate
from waemitter.turns.agents.toolbox import Errand, Toolbox
from waemitter.turns.agents.toolbox import Observer as ToolObserver

Failure: TypeAlias = Fault | Literal["circuit_open", "rejected"]
Reviewed: TypeAlias = Literal["kept", "rewritten", "rejected", "skipped"]

BACK_OFF: Final = 0.5
"""Seconds before the first retry; doubles, and a Retry-After that is longer counts instead."""
_SUMMARISE: Final = (
    "Summarise this conversation between a customer and an assistant in at most 150 words. Keep names, numbers, wishes, "
    "agreements and open questions. Write only the summary."
)
_SUMMARY_TOKENS: Final = 300


class Unanswered(Exception):
    """No reply: `failure` says why in a word, `args[0]` in a sentence without prompt or reply."""

    def __init__(self, failure: Failure, reason: str) -> None:
        super().__init__(reason)
        self.failure: Failure = failure


@dataclass(slots=True)
class Bill:
    """What a turn has used so far, kept also when it fails."""

    calls: int = 0
    tool_calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    reviewed: Reviewed | None = None

    def add(self, request: Request, completion: Completion, factor: float) -> None:
        """Add a call; where the server did not count, our estimate does."""
        counted_in, counted_out = completion.input_tokens, completion.output_tokens
        self.input_tokens += estimate(request.text(), factor) if counted_in is None else counted_in
        self.output_tokens += (
            estimate(completion.text, factor) if counted_out is None else counted_out
        )


@dataclass(frozen=True, slots=True)
class Reply:
    """The model's words, still Markdown. `handover`: it asks for a human."""

    text: str
    handover: bool


@dataclass(frozen=True, slots=True)
class Prepared:
    """A turn ready to be asked: the context, and the summary that was made for it, up to and with the entry `through`."""

    variant: Variant
    context: Context
    heard: str
    summary: tuple[str, int] | None = None


class Observer(ToolObserver, Protocol):
    """Is told of each call's outcome."""

    def agent_called(
        self, *, agent: str, outcome: str, took: float, input_tokens: int, output_tokens: int
    ) -> None: ...

    def agent_retried(self, *, agent: str, fault: str, reason: str, delay: float) -> None: ...

    def agent_reviewed(self, *, agent: str, result: Reviewed, took: float) -> None: ...


@dataclass(kw_only=True)
class Agent:
    """Asks the model. `clock` in seconds, monotonic; `jitter` from 0 to 1; `vocabulary` counts a model's tokens if it can."""

    spec: Spec
    provider: Provider
    circuit: Circuit
    observer: Observer
    clock: Callable[[], float]
    jitter: Callable[[], float]
    vocabulary: Callable[[str], Callable[[str], int] | None] = lambda _: None
    toolbox: Toolbox | None = None
    _factors: dict[str, float] = field(default_factory=dict)

    def estimate(
        self, variant: Variant, memory: Memory, heard: str, images: Sequence[str] = ()
    ) -> int:
        """Estimate the tokens that a turn uses at most: what is reserved of a budget before the model is asked.

        With tools, each of their rounds shows the model everything once more; what a tool will answer is not known yet.
        """
        reply = variant.max_reply_tokens
        tokens = self._context(variant, memory, heard, images).tokens + reply
        if self.spec.tools:
            tokens += estimate("".join(described(tool) for tool in self.spec.tools))
            tokens *= self.spec.tool_rounds + 1
        if self.spec.review is None:
            return tokens
        shown = estimate(self.spec.review.prompt + heard, self._factors.get(variant.model, 1.0))
        return tokens + shown + reply + reply

    async def prepare(
        self,
        variant: Variant,
        memory: Memory,
        heard: str,
        *,
        bill: Bill,
        deadline: float,
        images: Sequence[str] = (),
    ) -> Prepared:
        """Choose what the model is shown; where the spec wants it, what does not fit is summarised first."""
        context = self._context(variant, memory, heard, images)
        if not (self.spec.summary and context.dropped):
            return Prepared(variant, context, heard)
        # More than must go, so that not every turn from here on needs a new summary.
        going = (context.dropped + len(memory.entries) + 1) // 2
        gone, kept = memory.entries[:going], memory.entries[going:]
        try:
            text = await self._summarised(variant, memory.summary, gone, bill, deadline)
        except Unanswered:
            return Prepared(variant, context, heard)
        shorter = self._context(variant, Memory(summary=text, entries=kept), heard, images)
        return Prepared(variant, shorter, heard, (text, gone[-1].id))

    async def reply(
        self, prepared: Prepared, errand: Errand, *, review: bool, bill: Bill, deadline: float
    ) -> Reply:
        """Ask the model, within the deadline (of the clock). Raises Unanswered; the bill is right in any case."""
        variant = prepared.variant
        text = await self._said(prepared, errand, bill, deadline)
        word = self.spec.handover_word
        handover = word is not None and word in text
        if word is not None:
            text = text.replace(word, "").strip()
        if review and self.spec.review is not None and text:
            text = await self._reviewed(
                variant, self.spec.review, prepared.heard, text, bill, deadline
            )
        return Reply(text, handover)

    async def _said(self, prepared: Prepared, errand: Errand, bill: Bill, deadline: float) -> str:
        """What the model says in the end, after as many rounds of tools as it may have. Raises Unanswered."""
        variant, messages = prepared.variant, list(prepared.context.messages)
        rounds = self.spec.tool_rounds if self.toolbox is not None else 0
        used = 0
        while True:
            request = Request(
                model=variant.model,
                messages=tuple(messages),
                max_tokens=variant.max_reply_tokens,
                temperature=variant.temperature,
                tools=self.spec.tools,
                may_call=used < rounds,
            )
            completion = await self._ask(request, bill, deadline)
            if self.toolbox is None or not completion.calls or used == rounds:
                break
            used += 1
            results = await self.toolbox.use(
                completion.calls, errand, before=bill.tool_calls, deadline=deadline
            )
            bill.tool_calls += len(results)
            messages.append(Message("assistant", completion.text, calls=completion.calls))
            messages += [
                Message("tool", result, answers=call.id)
                for call, result in zip(completion.calls, results, strict=True)
            ]
        text = completion.text.strip()
        if not text:
            raise Unanswered("malformed", "the model asked tools to the end, and said nothing")
        return text

    def _context(
        self, variant: Variant, memory: Memory, heard: str, images: Sequence[str]
    ) -> Context:
        exact, factor = self.vocabulary(variant.model), self._factors.get(variant.model, 1.0)
        return build(
            system=variant.system_prompt,
            memory=memory,
            now=heard,
            most=self.spec.max_context_tokens,
            count=exact or (lambda text: estimate(text, factor)),
            images=images,
        )

    async def _summarised(
        self,
        variant: Variant,
        before: str | None,
        entries: Sequence[Entry],
        bill: Bill,
        deadline: float,
    ) -> str:
        lines = [f"Before: {before}"] if before else []
        for message in (message for entry in entries for message in entry.messages()):
            who = "Customer" if message.role == "user" else "Assistant"
            lines.append(f"{who}: {message.content}")
        request = Request(
            model=variant.model,
            messages=[Message("system", _SUMMARISE), Message("user", "\n".join(lines))],
            max_tokens=_SUMMARY_TOKENS,
        )
        return (await self._ask(request, bill, deadline)).text.strip()

    async def _reviewed(
        self, variant: Variant, review: Review, heard: str, draft: str, bill: Bill, deadline: float
    ) -> str:
        """Let the draft be looked at; it goes out as it is when nobody could. Raises Unanswered when it was rejected."""
        began = self.clock()
        request = Request(
            model=review.model or variant.model,
            messages=[
                Message("system", review.prompt),
                Message(
                    "user", f"The customer wrote:\n{heard}\n\nThe draft of the reply:\n{draft}"
                ),
            ],
            max_tokens=variant.max_reply_tokens,
        )
        result: Reviewed = "skipped"
        text = draft
        try:
            verdict = (await self._ask(request, bill, deadline)).text.strip()
        except Unanswered:
            pass
        else:
            if review.mode == "rewrite":
                text, result = verdict, "kept" if verdict == draft else "rewritten"
            else:
                result = "kept" if verdict[:2].upper() == "OK" else "rejected"
        bill.reviewed = result
        self.observer.agent_reviewed(agent=self.spec.name, result=result, took=self.clock() - began)
        if result == "rejected":
            raise Unanswered("rejected", "the second look rejected the draft")
        return text

    async def _ask(self, request: Request, bill: Bill, deadline: float) -> Completion:
        """Make one request, and again where that may help. Raises Unanswered."""
        for tried in range(self.spec.retries + 1):
            left = deadline - self.clock()
            if left <= 0:
                break
            try:
                return await self._call(request, bill, min(left, self.spec.request_timeout))
            except ProviderFailed as failure:
                delay = back_off(tried, failure.retry_after, self.jitter())
                if tried == self.spec.retries or self.clock() + delay >= deadline:
                    raise Unanswered(failure.fault, str(failure)) from None
                self.observer.agent_retried(
                    agent=self.spec.name, fault=failure.fault, reason=str(failure), delay=delay
                )
                await asyncio.sleep(delay)
        raise Unanswered("timeout", f"no answer within {self.spec.timeout:g} s")

    async def _call(self, request: Request, bill: Bill, timeout: float) -> Completion:
        began = self.clock()
        bill.calls += 1
        outcome = "cancelled"
        before = (bill.input_tokens, bill.output_tokens)
        try:
            with self.circuit.call():
                completion = await self.provider.complete(request, timeout=timeout)
            self._learn(request, completion)
            bill.add(request, completion, self._factors.get(request.model, 1.0))
            outcome = "ok"
        except CircuitOpen as closed:
            bill.calls -= 1
            outcome = "circuit_open"
            raise Unanswered("circuit_open", str(closed)) from None
        except ProviderRefused as refused:
            outcome = "refused"
            raise Unanswered("refused", str(refused)) from None
        except ProviderFailed as failure:
            outcome = failure.fault
            raise
        finally:
            self.observer.agent_called(
                agent=self.spec.name,
                outcome=outcome,
                took=self.clock() - began,
                input_tokens=bill.input_tokens - before[0],
                output_tokens=bill.output_tokens - before[1],
            )
        return completion

    def _learn(self, request: Request, completion: Completion) -> None:
        if completion.input_tokens is None or request.sees:
            return
        factor = self._factors.get(request.model, 1.0)
        self._factors[request.model] = calibrated(
            factor, estimated=estimate(request.text(), factor), counted=completion.input_tokens
        )


def back_off(tried: int, retry_after: float | None, jitter: float) -> float:
    """Seconds before the next request, after `tried` retries; `jitter` from 0 to 1 adds up to a quarter."""
    return max(BACK_OFF * (1 << tried), retry_after or 0.0) * (1 + jitter / 4)
