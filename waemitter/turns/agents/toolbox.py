"""The tools of an agent: services of yours that the model may ask, and nobody else.

A model chooses a name and writes arguments; the address, the signature and the time are the settings'. Whatever goes wrong is
told to the model in a sentence, since it may do without, and never ends the turn.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final, Literal, NamedTuple, Protocol, TypeAlias

import aiohttp
import orjson

from waemitter.runtime.circuits import Circuit, CircuitOpen, TargetFailed
from waemitter.turns.agents.context import Call
from waemitter.turns.agents.schemas import WrongArguments, arguments_of
from waemitter.turns.agents.spec import Tool
from waemitter.turns.handlers.http import target_of
from waemitter.turns.handlers.webhook_signature import sign
from waemitter.turns.turn import Turn

ToolOutcome: TypeAlias = Literal[
    "ok", "refused", "failed", "timeout", "wrong_arguments", "unknown", "circuit_open"
]

MOST_AT_ONCE: Final = 8
"""Calls of one answer of the model that are made; the others are told so."""
LONGEST_RESULT: Final = 16_000
"""Characters that the model is shown; the rest is cut."""
_READ: Final = 4 * LONGEST_RESULT


class Result(NamedTuple):
    """What the model is told, and what came of the call."""

    text: str
    outcome: ToolOutcome


@dataclass(frozen=True, slots=True, kw_only=True)
class Errand:
    """For whom a tool is asked; `id` is the start of what names each call of it."""

    id: str
    correlation_id: str | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)


def errand_of(turn: Turn) -> Errand:
    told = turn.plain()
    wanted = ("turn_id", "attempt", "channel", "conversation_id", "contact")
    return Errand(
        id=f"tool_{turn.turn_id}_{turn.attempt}",
        correlation_id=turn.correlation_id,
        facts={key: told[key] for key in wanted},
    )


class Observer(Protocol):
    def agent_tool_called(
        self, *, agent: str, tool: str, outcome: ToolOutcome, took: float
    ) -> None: ...


class ToolFailed(TargetFailed):
    """The service's own fault."""

    def __init__(self, reason: str, outcome: ToolOutcome = "failed") -> None:
        super().__init__(reason)
        self.outcome: ToolOutcome = outcome


class Toolbox:
    """Asks the services. Follows no redirect, keeps no cookie, and tries nothing twice: the model may."""

    def __init__(
        self,
        agent: str,
        tools: Sequence[Tool],
        *,
        session: aiohttp.ClientSession,
        circuit_to: Callable[[str], Circuit],
        observer: Observer,
        clock: Callable[[], float],
        wall: Callable[[], float],
    ) -> None:
        """`clock`: seconds, monotonic; `wall`: seconds since 1970."""
        self._agent = agent
        self._tools = {tool.name: tool for tool in tools}
        self._circuits = {tool.name: circuit_to(target_of(tool.url)) for tool in tools}
        self._session = session
        self._observer = observer
        self._clock = clock
        self._wall = wall

    async def use(
        self, calls: Sequence[Call], errand: Errand, *, before: int, deadline: float
    ) -> Sequence[str]:
        """Make the calls of one answer, all at once, until the deadline (of the clock): a result for each, in their order.

        `before`: how many calls this turn has made, so that each has a name of its own.
        """
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(
                    self._told(call, errand, number=before + n, place=n, deadline=deadline)
                )
                for n, call in enumerate(calls, 1)
            ]
        return [task.result() for task in tasks]

    async def _told(
        self, call: Call, errand: Errand, *, number: int, place: int, deadline: float
    ) -> str:
        began = self._clock()
        if place > MOST_AT_ONCE:
            text = f"Error: no more than {MOST_AT_ONCE} calls at once. Ask again with fewer."
            result = Result(text, "refused")
        else:
            result = await self._use(call, errand, number, deadline)
        self._observer.agent_tool_called(
            agent=self._agent,
            tool=call.name if call.name in self._tools else "unknown",
            outcome=result.outcome,
            took=self._clock() - began,
        )
        return result.text

    async def _use(self, call: Call, errand: Errand, number: int, deadline: float) -> Result:
        tool = self._tools.get(call.name)
        if tool is None:
            return Result(f"Error: there is no tool {call.name[:64]!r}.", "unknown")
        try:
            arguments = arguments_of(call.arguments, tool.parameters)
        except WrongArguments as wrong:
            return Result(f"Error: {wrong}.", "wrong_arguments")
        within = min(tool.timeout, deadline - self._clock())
        if within <= 0:
            return Result("Error: no time is left for this.", "timeout")
        try:
            with self._circuits[tool.name].call():
                return await self._asked(tool, arguments, errand, number, within)
        except CircuitOpen:
            return Result("Error: the service is not available at the moment.", "circuit_open")
        except ToolFailed as failure:
            return Result(f"Error: {failure}.", failure.outcome)

    async def _asked(
        self, tool: Tool, arguments: Mapping[str, Any], errand: Errand, number: int, within: float
    ) -> Result:
        """Raises ToolFailed."""
        webhook_id = f"{errand.id}_{number}"
        body = orjson.dumps({**errand.facts, "tool": tool.name, "arguments": arguments})
        try:
            async with self._session.post(
                tool.url,
                data=body,
                headers=self._headers(tool, webhook_id, errand, body),
                timeout=aiohttp.ClientTimeout(total=within),
                allow_redirects=False,
            ) as response:
                status = response.status
                if (
                    status == HTTPStatus.TOO_MANY_REQUESTS
                    or status >= HTTPStatus.INTERNAL_SERVER_ERROR
                ):
                    raise ToolFailed(f"the service answered {status}")
                text = await _read(response)
        except TimeoutError:
            raise ToolFailed("the service did not answer in time", "timeout") from None
        except aiohttp.ClientError:
            raise ToolFailed("the service cannot be reached") from None
        if not HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
            return Result(f"Error: the service answered {status}. {text}", "refused")
        return Result(text or "Done.", "ok")

    def _headers(
        self, tool: Tool, webhook_id: str, errand: Errand, body: bytes
    ) -> Mapping[str, str]:
        timestamp = int(self._wall())
        headers = {
            "Content-Type": "application/json",
            "X-Correlation-ID": errand.correlation_id or webhook_id,
            "webhook-id": webhook_id,
            "webhook-timestamp": str(timestamp),
        }
        if tool.key is not None:
            headers["webhook-signature"] = sign(
                tool.key, webhook_id=webhook_id, timestamp=timestamp, body=body
            )
        return headers


async def _read(response: aiohttp.ClientResponse) -> str:
    """As much of an answer as a model is shown."""
    read = bytearray()
    async for chunk in response.content.iter_any():
        read += chunk
        if len(read) > _READ:
            break
    text = read.decode(errors="replace").strip()
    return text if len(text) <= LONGEST_RESULT else f"{text[:LONGEST_RESULT]} … (cut)"
