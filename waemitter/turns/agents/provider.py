"""Whoever completes a chat: a protocol of one method, so that another kind of model is one class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

from waemitter.runtime.circuits import TargetFailed
from waemitter.turns.agents.context import Message

Fault: TypeAlias = Literal[
    "rate_limited", "timeout", "unreachable", "server", "malformed", "refused"
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One chat to complete. `max_tokens`: of the reply."""

    model: str
    messages: Sequence[Message]
    max_tokens: int
    temperature: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """What the model said; the tokens as the server counted them, None when it did not say."""

    text: str
    input_tokens: int | None = None
    output_tokens: int | None = None


class ProviderFailed(TargetFailed):
    """No completion, and asking again may help, after `retry_after` seconds if the server said so."""

    def __init__(self, fault: Fault, reason: str, *, retry_after: float | None = None) -> None:
        """`reason` is logged and stored: no prompt and no reply in it."""
        super().__init__(reason)
        self.fault: Fault = fault
        self.retry_after = retry_after


class ProviderRefused(Exception):
    """The request itself is wrong, or not allowed: asking again is in vain. `args[0]` is the reason, without prompt or reply."""


class Provider(Protocol):
    async def complete(self, request: Request, *, timeout: float) -> Completion:
        """Complete a chat within so many seconds. Raises ProviderFailed or ProviderRefused."""
        ...
