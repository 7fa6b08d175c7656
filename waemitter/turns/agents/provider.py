"""Whoever completes a chat: a protocol of one method, so that another kind of model is one class."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeAlias

from waemitter.runtime.circuits import TargetFailed
from waemitter.turns.agents.context import Call, Message
from waemitter.turns.agents.spec import Tool

Fault: TypeAlias = Literal[
    "rate_limited", "timeout", "unreachable", "server", "malformed", "refused"
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One chat to complete. `max_tokens`: of the reply. Without `may_call` no tool may be asked, though all are shown."""

    model: str
    messages: Sequence[Message]
    max_tokens: int
    temperature: float | None = None
    tools: Sequence[Tool] = ()
    may_call: bool = True

    def text(self) -> str:
        """All that the model reads, as far as it is text: what an estimate of its tokens is made of."""
        said = [message.content for message in self.messages]
        said += [call.arguments for message in self.messages for call in message.calls]
        return "".join(said + [described(tool) for tool in self.tools])

    @property
    def sees(self) -> bool:
        return any(message.images for message in self.messages)


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """What the model said, and which tools it asks; the tokens as the server counted them, None when it did not say.

    `text` is empty only where there are `calls`.
    """

    text: str
    calls: Sequence[Call] = ()
    input_tokens: int | None = None
    output_tokens: int | None = None


def described(tool: Tool) -> str:
    return json.dumps(function_of(tool))


def function_of(tool: Tool) -> Mapping[str, Any]:
    """Describe a tool as OpenAI's language has it."""
    return {"name": tool.name, "description": tool.description, "parameters": dict(tool.parameters)}


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
