"""The agents of the settings: each with a client, the circuit of its endpoint, and a handler."""

from __future__ import annotations

import random
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final
from urllib.parse import urlsplit

import aiohttp

from waemitter.db.pool import Pool
from waemitter.runtime.circuits import Circuits
from waemitter.settings import AgentSettings
from waemitter.turns.agents.agent import Agent
from waemitter.turns.agents.agent import Observer as AgentObserver
from waemitter.turns.agents.compatible import connected
from waemitter.turns.agents.handler import AgentHandler, Observer
from waemitter.turns.agents.pictures import Pictures, Shelf
from waemitter.turns.agents.spec import Review, Spec, Tool, Variant
from waemitter.turns.agents.store import AgentStore
from waemitter.turns.agents.toolbox import Toolbox
from waemitter.turns.agents.vocabulary import counter
from waemitter.turns.handlers.webhook_signature import key_of

_OPENAI: Final = "api.openai.com"


def spec_of(agent: AgentSettings) -> Spec:
    """The agent in the words of the package turns."""
    table, review = agent.table, agent.review
    return Spec(
        name=agent.name,
        target=urlsplit(agent.base_url).netloc if agent.base_url else _OPENAI,
        variants=[Variant(**each.model_dump()) for each in agent.variants],
        max_context_tokens=table.max_context_tokens,
        timeout=table.timeout,
        request_timeout=table.request_timeout,
        retries=table.retries,
        fallback_text=table.fallback_text,
        handover_on_failure=table.handover_on_failure,
        handover_word=table.handover_word,
        refusal_text=table.refusal_text,
        tokens_per_day=table.tokens_per_day,
        tokens_per_contact=table.tokens_per_contact,
        summary=table.summary,
        review=Review(**review.model_dump()) if review is not None else None,
        tools=[
            Tool(
                name=each.name,
                description=each.description,
                url=each.url,
                parameters=each.parameters,
                timeout=each.timeout,
                key=None if each.secret is None else key_of(each.secret.get_secret_value()),
            )
            for each in agent.tools
        ],
        tool_rounds=table.tool_rounds,
        images=table.images,
    )


@asynccontextmanager
async def open_agent(
    agent: AgentSettings,
    *,
    circuits: Circuits,
    observer: AgentObserver,
    session: aiohttp.ClientSession,
) -> AsyncIterator[Agent]:
    """Connect an agent to its endpoint; `session` asks its tools. Raises UsageError when the package openai is missing."""
    key = agent.api_key.get_secret_value() if agent.api_key is not None else None
    spec = spec_of(agent)
    async with connected(api_key=key, base_url=agent.base_url) as provider:
        yield Agent(
            spec=spec,
            provider=provider,
            circuit=circuits.to(spec.target),
            observer=observer,
            clock=time.monotonic,
            jitter=random.random,
            vocabulary=counter,
            toolbox=Toolbox(
                agent.name,
                spec.tools,
                session=session,
                circuit_to=circuits.to,
                observer=observer,
                clock=time.monotonic,
                wall=time.time,
            )
            if spec.tools
            else None,
        )


@asynccontextmanager
async def agent_handlers(
    agents: Sequence[AgentSettings],
    *,
    pool: Pool,
    session: aiohttp.ClientSession,
    circuits: Circuits,
    observer: Observer,
    shelf: Shelf | None,
) -> AsyncIterator[Mapping[str, AgentHandler]]:
    """Open a handler for each agent, by its name; `shelf`: where images are. Raises UsageError as open_agent does."""
    store = AgentStore(pool)
    async with AsyncExitStack() as clients:
        handlers = {}
        for each in agents:
            agent = await clients.enter_async_context(
                open_agent(each, circuits=circuits, observer=observer, session=session)
            )
            handlers[each.name] = AgentHandler(
                agent,
                store,
                observer=observer,
                clock=time.monotonic,
                pictures=Pictures(shelf) if shelf and each.table.images else None,
            )
        yield handlers
