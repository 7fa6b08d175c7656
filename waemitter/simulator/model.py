"""A language model that says what it is told to: `POST /v1/chat/completions`, as OpenAI's and all that speak its language.

Shapes are those of OpenAI's API reference, "Create chat completion", "List models" and "Error codes".
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from time import time
from typing import Any, Final

import orjson
from aiohttp import web

from waemitter.simulator.world import World

_REMEMBERED: Final = 1000
_KEYS: Final = frozenset(
    {
        "text",
        "latency",
        "status",
        "retry_after",
        "malformed",
        "drip",
        "hang",
        "usage",
        "finish_reason",
        "tool_calls",
    }
)
_WORDS: Final = {429: "rate_limit_exceeded", 401: "invalid_api_key", 400: "invalid_request_error"}
_BYTES_A_TOKEN: Final = 4
_PIECES: Final = 20


@dataclass(slots=True)
class Model:
    """The script, step by step, and what was asked. Without a script every question gets the option `model_reply`.

    A step is an object: `text`; `latency` in seconds; `status` (an error of that code) with `retry_after`; `malformed`: the
    body is no JSON; `drip`: seconds between the pieces of a slow answer; `hang`: none at all; `usage`: instead of the counted
    one, null to leave it out; `finish_reason`; `tool_calls`: a list of `{"name", "arguments"}`, arguments an object, or a text to
    be sent as it is.
    """

    steps: deque[Mapping[str, Any]] = field(default_factory=deque)
    requests: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=_REMEMBERED))
    count: int = 0

    def script(self, steps: Sequence[Any]) -> None:
        """Add steps, each for one request, in order. Raises `ValueError` for what is none."""
        for step in steps:
            if not isinstance(step, Mapping) or not step.keys() <= _KEYS:
                raise ValueError(f"a step is an object with keys among {', '.join(sorted(_KEYS))}")
        self.steps.extend(steps)

    def clear(self) -> None:
        self.steps.clear()
        self.requests.clear()
        self.count = 0


class ModelApi:
    """The model over HTTP, and its script under `/_simulator/model`."""

    def __init__(self, world: World, model: Model, closing: asyncio.Event) -> None:
        self._world = world
        self._model = model
        self._closing = closing

    def add_routes(self, router: web.UrlDispatcher) -> None:
        router.add_post("/v1/chat/completions", self.complete)
        router.add_get("/v1/models", self.listed)
        router.add_get("/_simulator/model", self.told)
        router.add_post("/_simulator/model", self.script)
        router.add_delete("/_simulator/model", self.forget)

    async def told(self, _: web.Request) -> web.Response:
        model = self._model
        return _json(
            {
                "count": model.count,
                "waiting_steps": len(model.steps),
                "requests": list(model.requests),
            }
        )

    async def script(self, request: web.Request) -> web.Response:
        try:
            wish = orjson.loads(await request.read())
            self._model.script(wish if isinstance(wish, list) else [wish])
        except ValueError as error:
            return _json({"error": str(error)}, status=400)
        return _json({"waiting_steps": len(self._model.steps)})

    async def forget(self, _: web.Request) -> web.Response:
        self._model.clear()
        return _json({"success": True})

    async def listed(self, _: web.Request) -> web.Response:
        model = {"id": "simulated", "object": "model", "created": 0, "owned_by": "waemitter"}
        return _json({"object": "list", "data": [model]})

    async def complete(self, request: web.Request) -> web.StreamResponse:
        asked = _asked(await request.read())
        if asked is None:
            return _error(400, "messages: must be a list of objects with role and content")
        model, options = self._model, self._world.options
        model.count += 1
        model.requests.append(asked)
        step = model.steps.popleft() if model.steps else {}
        await asyncio.sleep(float(step.get("latency", options.model_latency)))
        if step.get("hang"):
            await self._closing.wait()
        if "status" in step:
            return _error(int(step["status"]), "scripted", retry_after=step.get("retry_after"))
        if step.get("malformed"):
            return web.Response(body=b'{"choices": [', content_type="application/json")
        calls = [_call(model.count, n, call) for n, call in enumerate(step.get("tool_calls", ()))]
        text = str(step.get("text", "" if calls else options.model_reply))
        text = text.replace("{text}", _last(asked)).replace("{n}", str(model.count))
        usage = step.get("usage", _usage(asked, text))
        answer = _Answer(
            f"chatcmpl-{model.count}",
            str(asked.get("model")),
            text,
            usage,
            step.get("finish_reason", "tool_calls" if calls else "stop"),
            calls,
        )
        drip = float(step.get("drip", 0.0))
        if asked.get("stream"):
            return await self._stream(request, answer.chunks(), drip, "text/event-stream")
        body = orjson.dumps(answer.whole())
        if drip:
            size = -(-len(body) // _PIECES)
            pieces = [body[at : at + size] for at in range(0, len(body), size)]
            return await self._stream(request, pieces, drip, "application/json")
        return web.Response(body=body, content_type="application/json")

    async def _stream(
        self, request: web.Request, pieces: Sequence[bytes], drip: float, content_type: str
    ) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": content_type})
        await response.prepare(request)
        for piece in pieces:
            await asyncio.sleep(drip)
            await response.write(piece)
        await response.write_eof()
        return response


@dataclass(frozen=True, slots=True)
class _Answer:
    id: str
    model: str
    text: str
    usage: Mapping[str, Any] | None
    finish_reason: str
    calls: Sequence[Mapping[str, Any]] = ()

    def whole(self) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": self.text, "refusal": None}
        if self.calls:
            message |= {"content": self.text or None, "tool_calls": list(self.calls)}
        choice: dict[str, Any] = {
            "index": 0,
            "message": message,
            "logprobs": None,
            "finish_reason": self.finish_reason,
        }
        return {**self._frame("chat.completion", [choice]), "usage": self.usage}

    def chunks(self) -> list[bytes]:
        """Server-sent events: the words one by one, the end, the usage, [DONE]."""
        deltas: list[dict[str, Any]] = [
            {"content": word + " "} for word in self.text.split(" ")[:-1]
        ]
        deltas = [
            {"role": "assistant", "content": ""},
            *deltas,
            {"content": self.text.split(" ")[-1]},
        ]
        choices: list[dict[str, Any]] = [
            {"index": 0, "delta": delta, "finish_reason": None} for delta in deltas
        ]
        choices.append({"index": 0, "delta": {}, "finish_reason": self.finish_reason})
        frames = [self._frame("chat.completion.chunk", [choice]) for choice in choices]
        frames.append(self._frame("chat.completion.chunk", []) | {"usage": self.usage})
        return [*(b"data: %s\n\n" % orjson.dumps(frame) for frame in frames), b"data: [DONE]\n\n"]

    def _frame(self, kind: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
        frame: dict[str, Any] = {
            "id": self.id,
            "object": kind,
            "created": int(time()),
            "model": self.model,
            "choices": choices,
        }
        return frame


def _asked(raw: bytes) -> dict[str, Any] | None:
    try:
        asked = orjson.loads(raw)
    except ValueError:
        return None
    messages = asked.get("messages") if isinstance(asked, dict) else None
    if not isinstance(messages, list) or not messages:
        return None
    fine = all(isinstance(each, dict) and "role" in each and "content" in each for each in messages)
    return asked if fine else None


def _call(request: int, number: int, wish: Mapping[str, Any]) -> dict[str, Any]:
    arguments = wish.get("arguments", {})
    written = arguments if isinstance(arguments, str) else orjson.dumps(arguments).decode()
    function = {"name": wish["name"], "arguments": written}
    return {"id": f"call_{request}_{number}", "type": "function", "function": function}


def _last(asked: Mapping[str, Any]) -> str:
    return _words(asked["messages"][-1]["content"])


def _words(content: Any) -> str:
    """The text of a message, without its images."""
    if isinstance(content, list):
        return "".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return str(content or "")


def _usage(asked: Mapping[str, Any], text: str) -> dict[str, int]:
    shown = sum(len(_words(each["content"]).encode()) for each in asked["messages"])
    prompt = shown // _BYTES_A_TOKEN + 4 * len(asked["messages"])
    said = len(text.encode()) // _BYTES_A_TOKEN + 1
    return {"prompt_tokens": prompt, "completion_tokens": said, "total_tokens": prompt + said}


def _error(status: int, message: str, retry_after: Any = None) -> web.Response:
    kind = _WORDS.get(status, "server_error")
    error = {"message": message, "type": kind, "param": None, "code": kind}
    response = _json({"error": error}, status=status)
    if retry_after is not None:
        response.headers["Retry-After"] = str(retry_after)
    return response


def _json(document: object, status: int = 200) -> web.Response:
    return web.Response(status=status, body=orjson.dumps(document), content_type="application/json")
