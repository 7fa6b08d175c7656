"""What a model that answers is told and allowed: the tables `[agents.<name>]`, as written and as completed."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Final, Literal

from pydantic import BeforeValidator, Field, SecretStr

from waemitter.settings.durations import Duration
from waemitter.settings.metadata import Group, Kind, setting
from waemitter.settings.values import ServiceUrl, Token, Url, lowered

ReviewMode = Annotated[Literal["rewrite", "reject"], BeforeValidator(lowered)]
# By its text: the Decimal of 0.15 as a float has fifty digits.
Price = Annotated[Decimal, BeforeValidator(str), Field(ge=0, allow_inf_nan=False), Kind("number")]


class AgentVariantTable(Group):
    name: str = setting("", "What comparisons call it.", min_length=1, max_length=63)
    weight: float = setting(
        1.0, "Its share of the contacts, beside the other weights.", ge=0, allow_inf_nan=False
    )
    model: str | None = setting(None, "As the agent's, and so are all the following.", min_length=1)
    system_prompt: str | None = setting(None, "What the model is told first.", min_length=1)
    system_prompt_file: Path | None = setting(None, "The file that holds it.")
    temperature: float | None = setting(None, "How freely the model chooses words.", ge=0, le=2)
    max_reply_tokens: int | None = setting(None, "The longest reply.", ge=1, le=100_000)
    input_price: Price | None = setting(None, "The price of a million tokens shown.")
    output_price: Price | None = setting(None, "The price of a million tokens said.")


class ReviewTable(Group):
    mode: ReviewMode = setting(
        "rewrite",
        "`rewrite` sends what comes back; `reject` sends the draft if what comes back begins with OK, else the fallback.",
    )
    prompt: str | None = setting(None, "What the second model is told.", min_length=1)
    prompt_file: Path | None = setting(None, "The file that holds it.")
    model: str | None = setting(None, "The model that looks; without it the agent's.", min_length=1)


Parameters = Annotated[dict[str, Any], Kind("table")]
NO_PARAMETERS: Final[Mapping[str, Any]] = MappingProxyType({"type": "object", "properties": {}})


class ToolTable(Group):
    name: str = setting(
        "",
        "What the model calls it: letters, digits, `_` and `-`.",
        pattern=r"^[a-zA-Z0-9_-]{1,64}$",
    )
    description: str = setting(
        "", "What it is for, in words for the model; required.", min_length=1
    )
    url: ServiceUrl | None = setting(
        None, "The service that is asked, by POST; redirects are not followed. Required."
    )
    parameters: Parameters | None = setting(
        None, "The JSON schema of the arguments, an object's; without it there are none."
    )
    parameters_file: Path | None = setting(None, "The JSON file that holds it.")
    timeout: Duration = setting(5.0, "How long one call may take.", gt=0)
    secret_env: str | None = setting(None, "The variable that holds the signing secret.")
    secret_file: Path | None = setting(None, "The file that holds it.")


class AgentTable(Group):
    """An `[agents.<name>]` table as written."""

    model: str | None = setting(None, "The model, by its provider's name; required.", min_length=1)
    base_url: Url | None = setting(
        None, "An endpoint that speaks OpenAI's language; without it `openai.base_url`."
    )
    api_key_env: str | None = setting(
        None, "The variable that holds the key; without it `openai.api_key`."
    )
    system_prompt: str | None = setting(
        None, "What the model is told first; this or the next is required.", min_length=1
    )
    system_prompt_file: Path | None = setting(
        None, "The file that holds it, from where the TOML file is."
    )
    temperature: float | None = setting(
        None, "How freely the model chooses words; without it the provider's own.", ge=0, le=2
    )
    max_context_tokens: int = setting(
        4000,
        "The window of the conversation that the model is shown; the system prompt and the customer's last words are "
        "never left out.",
        ge=1,
    )
    max_reply_tokens: int = setting(500, "The longest reply.", ge=1, le=100_000)
    timeout: Duration = setting(45.0, "How long a turn may take, retries included.", gt=0)
    request_timeout: Duration = setting(30.0, "How long one request of it may take.", gt=0)
    retries: int = setting(
        2,
        "Further requests after a time-out, a 408, 409, 429, 5xx or an unreadable answer.",
        ge=0,
        le=10,
    )
    fallback_text: str | None = setting(
        None,
        "What is said when the model does not answer; without it the turn is tried again.",
        min_length=1,
    )
    handover_on_failure: bool = setting(
        False,  # noqa: FBT003 - the first argument is the default, whatever its type
        "Hand the conversation to a human when the model does not answer.",
    )
    handover_word: str | None = setting(
        None,
        "A word that the prompt tells the model to write when a human should go on; it is taken out of the reply.",
        min_length=1,
    )
    tokens_per_day: int | None = setting(
        None, "Tokens in and out, in a day of UTC; beyond them the refusal is sent.", ge=0
    )
    tokens_per_contact: int | None = setting(None, "The same, of one contact.", ge=0)
    refusal_text: str | None = setting(
        None, "What is said when a budget is spent; without it an English sentence.", min_length=1
    )
    summary: bool = setting(
        False,  # noqa: FBT003 - as above
        "Keep a running summary of what no longer fits into the window.",
    )
    images: bool = setting(
        False,  # noqa: FBT003 - as above
        "Show the model the images that customers send, where they are kept (`media`).",
    )
    tool_rounds: int = setting(
        3, "How often in a turn the model may ask its tools before it must answer.", ge=1, le=10
    )
    input_price: Price = setting(
        Decimal(0), "The price of a million tokens shown to the model, in any one currency."
    )
    output_price: Price = setting(Decimal(0), "The price of a million tokens said by it.")
    variants: tuple[AgentVariantTable, ...] = ()
    review: ReviewTable | None = None
    tools: tuple[ToolTable, ...] = ()


class VariantSettings(Group):
    """One variant with everything resolved. Prices are for a million tokens."""

    name: str
    weight: float
    model: str
    system_prompt: str
    temperature: float | None
    max_reply_tokens: int
    input_price: Decimal
    output_price: Decimal


class ReviewSettings(Group):
    mode: ReviewMode
    prompt: str
    model: str | None


class ToolSettings(Group):
    """One tool with its schema and its secret read."""

    name: str
    description: str
    url: str
    parameters: dict[str, Any]
    timeout: float
    secret: SecretStr | None


class AgentSettings(Group):
    """One agent with everything resolved. `table` holds what needed no resolving; there is at least one variant."""

    name: str
    table: AgentTable
    base_url: str | None
    api_key: Token | None
    variants: tuple[VariantSettings, ...]
    review: ReviewSettings | None
    tools: tuple[ToolSettings, ...] = ()
