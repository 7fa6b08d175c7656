"""An agent whose model is the simulator's, on a real database, and turns for it."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeAlias
from unittest.mock import patch

import aiohttp
import asyncpg

from tests.observing import Observed, observing
from waemitter.db.pool import open_pool
from waemitter.runtime.circuits import Circuits
from waemitter.simulator import Options, Simulator
from waemitter.turns.agents import agent as agent_module
from waemitter.turns.agents.agent import Agent
from waemitter.turns.agents.compatible import connected
from waemitter.turns.agents.handler import AgentHandler
from waemitter.turns.agents.pictures import Pictures
from waemitter.turns.agents.spec import Spec, Variant
from waemitter.turns.agents.store import AgentStore
from waemitter.turns.agents.toolbox import Toolbox
from waemitter.turns.turn import Answer, Contact, Session, Turn

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"


def variant(name: str = "default", **more: Any) -> Variant:
    values: dict[str, Any] = {"weight": 1.0, "model": "m-1", "system_prompt": "Be kind."}
    return Variant(name=name, **(values | more))


def spec(**more: Any) -> Spec:
    values: dict[str, Any] = {"name": "assistant", "target": "model", "variants": [variant()]}
    return Spec(**(values | more))


@dataclass
class Scene:
    """One conversation with the agent; turns count up by themselves."""

    handler: AgentHandler
    store: AgentStore
    model: Simulator
    observed: Observed
    connection: Connection
    contact_id: int
    conversation_id: int
    turns: int = 0
    waits: list[float] = field(default_factory=list)

    def turn(self, text: str, **more: Any) -> Turn:
        self.turns += 1
        message: Mapping[str, Any] = {"type": "text", "text": {"body": text}}
        values: dict[str, Any] = {
            "turn_id": self.turns,
            "attempt": 1,
            "channel": "default",
            "route": "fallback",
            "conversation_id": self.conversation_id,
            "contact": Contact(self.contact_id, "14155550123", None, "+14155550123", "Ada"),
            "session": Session(),
            "text": text,
            "messages": [message],
        }
        return Turn(**(values | more))

    async def says(self, text: str, **more: Any) -> Answer:
        return await self.handler.handle(self.turn(text, **more))

    def shown(self, request: int = -1) -> list[tuple[str, str]]:
        messages = self.model.model.requests[request]["messages"]
        return [(message["role"], message["content"]) for message in messages]

    async def session(self) -> asyncpg.Record:
        row = await self.connection.fetchrow(
            "select * from waemitter.agent_sessions order by id desc limit 1"
        )
        assert row is not None
        return row

    async def used(self, contact_id: int) -> int:
        """Tokens of today; 0 for all contacts together."""
        found = await self.connection.fetchval(
            "select tokens from waemitter.agent_usage where contact_id = $1", contact_id
        )
        return int(found or 0)


def bodies(answer: Answer) -> list[str]:
    return [message["text"]["body"] for message in answer.messages]


async def customer(connection: Connection, wa_id: str = "14155550123") -> tuple[int, int]:
    """A contact and its conversation."""
    contact_id = await connection.fetchval(
        "select waemitter.contact_of(channel => 'default', wa_id => $1, user_id => null)", wa_id
    )
    conversation_id = await connection.fetchval(
        "insert into waemitter.conversations (channel, contact_id) values ('default', $1) returning id",
        contact_id,
    )
    return contact_id, conversation_id


@asynccontextmanager
async def scene(
    dsn: str, agent_spec: Spec | None = None, *, pictures: Pictures | None = None, **options: Any
) -> AsyncIterator[Scene]:
    connection = await asyncpg.connect(dsn)
    try:
        contact_id, conversation_id = await customer(connection)
        with observing() as observed, patch.object(agent_module, "BACK_OFF", 0.001):
            async with (
                aiohttp.ClientSession() as session,
                Simulator(Options(**options)) as simulator,
                connected(api_key="k", base_url=simulator.model_url) as provider,
                open_pool(dsn, size=8) as pool,
            ):
                chosen = agent_spec or spec()
                circuits = Circuits(observer=observed.events, clock=time.monotonic)
                agent = Agent(
                    spec=chosen,
                    provider=provider,
                    circuit=circuits.to(chosen.target),
                    observer=observed.events,
                    clock=time.monotonic,
                    jitter=lambda: 0.0,
                    toolbox=Toolbox(
                        chosen.name,
                        chosen.tools,
                        session=session,
                        circuit_to=circuits.to,
                        observer=observed.events,
                        clock=time.monotonic,
                        wall=lambda: 1795300000.9,
                    )
                    if chosen.tools
                    else None,
                )
                store = AgentStore(pool)
                handler = AgentHandler(
                    agent,
                    store,
                    observer=observed.events,
                    clock=time.monotonic,
                    pictures=pictures,
                )
                yield Scene(
                    handler, store, simulator, observed, connection, contact_id, conversation_id
                )
    finally:
        await connection.close()
