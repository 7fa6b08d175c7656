"""What an agent is: its models, its words and its limits, as the settings say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final, Literal

_MILLION: Final = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One way to be this agent; contacts are dealt to the variants by weight. Prices are for a million tokens."""

    name: str
    weight: float
    model: str
    system_prompt: str
    temperature: float | None = None
    max_reply_tokens: int = 500
    input_price: Decimal = Decimal(0)
    output_price: Decimal = Decimal(0)

    def cost(self, input_tokens: int, output_tokens: int) -> Decimal:
        return (self.input_price * input_tokens + self.output_price * output_tokens) / _MILLION


@dataclass(frozen=True, slots=True, kw_only=True)
class Review:
    """A second look at a draft: `rewrite` sends what comes back, `reject` sends the draft if what comes back begins with OK."""

    mode: Literal["rewrite", "reject"]
    prompt: str
    model: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """A service that the model may ask, and what for. `parameters`: the JSON schema of its arguments, an object's.

    `timeout` in seconds, for one call; `key` signs, if there is one.
    """

    name: str
    description: str
    url: str
    parameters: Mapping[str, Any]
    timeout: float = 5.0
    key: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """One agent. `timeout`: seconds for a whole turn, retries included; `request_timeout`: for one request of it.

    `target`: the endpoint, as the circuit breaker's label. Budgets are tokens in a day of UTC, in and out together; None is no
    limit. `tool_rounds`: how often in a turn the model may ask tools before it must answer. `images`: it can see.
    """

    name: str
    target: str
    variants: Sequence[Variant]
    max_context_tokens: int = 4000
    timeout: float = 45.0
    request_timeout: float = 30.0
    retries: int = 2
    fallback_text: str | None = None
    handover_on_failure: bool = False
    handover_word: str | None = None
    refusal_text: str | None = None
    tokens_per_day: int | None = None
    tokens_per_contact: int | None = None
    summary: bool = False
    review: Review | None = None
    tools: Sequence[Tool] = ()
    tool_rounds: int = 3
    images: bool = False
