"""The handler `python`: a function of yours, in this process."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, TypeAlias

from typing_extensions import override

from waemitter.errors import PayloadError, UsageError
from waemitter.turns.answers import faults, parse_answer
from waemitter.turns.turn import Answer, Handler, HandlerFailed, Turn

Function: TypeAlias = Callable[[Turn], Any]


def load_function(written: str) -> Function:
    """Import `package.module:function`. Raises UsageError, saying which half is wrong."""
    module_name, _, name = written.partition(":")
    try:
        module = import_module(module_name)
    except ImportError as error:
        raise UsageError(
            f"{written}: cannot import {module_name} ({error}); it is looked for beside waemitter.toml too"
        ) from error
    function: Any = module
    for part in name.split("."):
        function = getattr(function, part, None)
    if not callable(function):
        raise UsageError(f"{written}: {module_name} has no function {name}")
    found: Function = function
    return found


class Python(Handler):
    """Calls a function with the Turn: a coroutine function in the event loop, any other in a thread.

    It returns an Answer, what an HTTP service may answer as a dict, a text, or None. It may raise HandlerFailed. Past its time
    it is cancelled; a thread cannot be, and its result is dropped.
    """

    def __init__(self, function: Function, *, timeout: float, service: str | None) -> None:
        """`timeout` in seconds."""
        self._function = function
        self._timeout = timeout
        self._service = service

    @override
    async def handle(self, turn: Turn) -> Answer:
        limit = asyncio.timeout(self._timeout)
        try:
            async with limit:
                result = await self._call(turn)
        except TimeoutError:
            if not limit.expired():  # the function's own: from a client of its own, say
                raise HandlerFailed(
                    "the function ran into a time-out of its own", retry=True
                ) from None
            raise HandlerFailed("the function took too long", retry=True) from None
        try:
            return self._answer(result, turn)
        except PayloadError as error:
            raise HandlerFailed(f"the function's answer: {error}", retry=False) from None

    async def _call(self, turn: Turn) -> Any:
        if inspect.iscoroutinefunction(self._function):
            return await self._function(turn)
        result = await asyncio.to_thread(self._function, turn)
        return await result if inspect.isawaitable(result) else result

    def _answer(self, result: Any, turn: Turn) -> Answer:
        match result:
            case Answer():
                for fault in faults(result.messages):
                    raise fault
                return result
            case str():
                text = {"messages": [{"type": "text", "text": {"body": result}}]}
                return parse_answer(text, before=turn.session, service=self._service)
            case None | Mapping():
                return parse_answer(result, before=turn.session, service=self._service)
            case _:
                raise PayloadError("answer", "must be an Answer, a dict, a text or None")
