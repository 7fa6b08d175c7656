"""Any endpoint that speaks OpenAI's language, through the official package `openai` (the extra `waemitter[agents]`)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

import orjson
from typing_extensions import override

from waemitter.errors import UsageError
from waemitter.turns.agents.context import Call, Message
from waemitter.turns.agents.provider import (
    Completion,
    Fault,
    Provider,
    ProviderFailed,
    ProviderRefused,
    Request,
    function_of,
)

if TYPE_CHECKING:
    from openai import APIStatusError, AsyncOpenAI
    from openai._types import RequestOptions

_MISSING: Final = "an agent is configured, and the package openai is not installed: pip install 'waemitter[agents]'"
# It makes a random key for each request, and sends it in no header: one key does as well.
_ONCE: Final[RequestOptions] = {"idempotency_key": "unused"}
_TRY_AGAIN: Final = frozenset({408, 409, 429})
_SERVER: Final = 500
_TOO_MANY: Final = 429
_LONGEST_WAIT: Final = 3600.0


class Compatible(Provider):
    """Made by `connected`. Retries are the caller's, who counts and bounds them."""

    def __init__(self, client: AsyncOpenAI) -> None:
        self._client = client

    @override
    async def complete(self, request: Request, *, timeout: float) -> Completion:
        import openai  # noqa: PLC0415  only where an agent is configured

        try:
            async with _answered(timeout):
                # Not chat.completions.create, which spends ten times this on walking the types of what it sends and gets.
                made = await self._client.post(
                    "/chat/completions",
                    cast_to=object,
                    content=orjson.dumps(_body(request)),
                    options=_ONCE,
                )
        except openai.APIStatusError as error:
            raise _status(error) from None
        return _completion(made, tools=bool(request.tools))

    async def knock(self, *, timeout: float) -> int:
        """Ask for the list of models: the HTTP status of the answer. Raises ProviderFailed when there is none."""
        import openai  # noqa: PLC0415  only where an agent is configured

        try:
            async with _answered(timeout):
                await self._client.get("/models", cast_to=object)
        except openai.APIStatusError as error:
            return error.status_code
        return HTTPStatus.OK


@asynccontextmanager
async def _answered(timeout: float) -> AsyncIterator[None]:
    """Turn what is no answer into ProviderFailed; an answer that is an error stays an APIStatusError."""
    import openai  # noqa: PLC0415  only where an agent is configured

    try:
        async with asyncio.timeout(timeout):
            yield
    except TimeoutError:
        raise ProviderFailed("timeout", f"no answer within {timeout:.1f} s") from None
    except openai.APIStatusError:
        raise
    except (
        openai.APIConnectionError
    ):  # its subclass APITimeoutError, too: over aiohttp, a refused connection is one
        raise ProviderFailed("unreachable", "the endpoint cannot be reached") from None
    except (openai.OpenAIError, ValueError):
        raise ProviderFailed("malformed", "the answer cannot be read") from None


def _body(request: Request) -> dict[str, Any]:
    body: dict[str, Any] = {
        "model": request.model,
        "messages": [_message(each) for each in request.messages],
        "max_tokens": request.max_tokens,
    }
    if request.temperature is not None:
        body["temperature"] = request.temperature
    if request.tools:
        body["tools"] = [
            {"type": "function", "function": function_of(tool)} for tool in request.tools
        ]
        body["tool_choice"] = "auto" if request.may_call else "none"
    return body


def _message(message: Message) -> dict[str, Any]:
    written: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.images:
        pictures = [{"type": "image_url", "image_url": {"url": each}} for each in message.images]
        written["content"] = [{"type": "text", "text": message.content}, *pictures]
    if message.calls:
        written["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            }
            for call in message.calls
        ]
    if message.answers is not None:
        written["tool_call_id"] = message.answers
    return written


def _completion(made: Any, *, tools: bool) -> Completion:
    """Read what came as JSON, of whatever shape; calls of tools only where some were shown."""
    try:
        message = made["choices"][0]["message"]
        text, asked = message.get("content"), message.get("tool_calls") if tools else None
        calls = tuple(_call(each) for each in asked or ())
        usage = made.get("usage") or {}
        counted = (usage.get("prompt_tokens"), usage.get("completion_tokens"))
    except (AttributeError, KeyError, IndexError, TypeError):
        raise ProviderFailed("malformed", "the answer is no chat completion") from None
    text = text if isinstance(text, str) else ""
    if not text.strip() and not calls:
        raise ProviderFailed("malformed", "the answer has no text")
    return Completion(
        text=text, calls=calls, input_tokens=_whole(counted[0]), output_tokens=_whole(counted[1])
    )


def _call(made: Any) -> Call:
    function = made["function"]
    name, arguments = function["name"], function.get("arguments")
    return Call(str(made["id"]), str(name), arguments if isinstance(arguments, str) else "")


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and value >= 0 else None


def _status(error: APIStatusError) -> ProviderFailed | ProviderRefused:
    status = error.status_code
    reason = f"the endpoint answered {status}"
    if status in _TRY_AGAIN:
        fault: Fault = "rate_limited" if status == _TOO_MANY else "server"
        return ProviderFailed(fault, reason, retry_after=_retry_after(error.response.headers))
    if status >= _SERVER:
        return ProviderFailed("server", reason, retry_after=_retry_after(error.response.headers))
    code = error.code if isinstance(error.code, str) else None
    return ProviderRefused(f"{reason} ({code})" if code else reason)


def _retry_after(headers: Any) -> float | None:
    """Seconds; OpenAI also says `retry-after-ms`. A date is left aside: our own back-off stands in for it."""
    for name, unit in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        try:
            seconds = float(headers.get(name, "")) / unit
        except ValueError:
            continue
        if 0 <= seconds <= _LONGEST_WAIT:
            return seconds
    return None


@asynccontextmanager
async def connected(*, api_key: str | None, base_url: str | None) -> AsyncIterator[Compatible]:
    """Open a client; `base_url` None is OpenAI itself. Raises UsageError when the package is missing."""
    try:
        from openai import AsyncOpenAI, DefaultAioHttpClient  # noqa: PLC0415  only where an agent is configured
    except ImportError:
        raise UsageError(_MISSING) from None
    # An endpoint of one's own often wants no key, and the package insists on one.
    # aiohttp underneath: httpx's own pool looks at every connection for every request.
    async with AsyncOpenAI(
        api_key=api_key or "none",
        base_url=base_url,
        max_retries=0,
        http_client=DefaultAioHttpClient(),
    ) as client:
        yield Compatible(client)
