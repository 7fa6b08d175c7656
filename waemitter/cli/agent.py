"""`waemitter agent …`: talk to an agent, compare its variants, forget a contact."""

from __future__ import annotations

import asyncio
import datetime
import sys
import time
from pathlib import Path
from typing import Annotated, Final

import aiohttp
import typer
from prometheus_client import CollectorRegistry

from waemitter.cli.context import (
    AsJson,
    Config,
    explained,
    loaded,
    print_json,
    print_rows,
    with_pool,
)
from waemitter.daemon.agents import open_agent
from waemitter.errors import NotFound, UsageError
from waemitter.observe import logging
from waemitter.observe.events import Events
from waemitter.observe.metrics import Metrics
from waemitter.runtime.circuits import Circuits
from waemitter.settings import AgentSettings, parse_duration
from waemitter.turns.agents.agent import Agent, Bill, Unanswered
from waemitter.turns.agents.context import Entry, Memory
from waemitter.turns.agents.handler import texts
from waemitter.turns.agents.store import AgentStore
from waemitter.turns.agents.toolbox import Errand

app: Final = typer.Typer(no_args_is_help=True, help="The models that answer.")

COLUMNS: Final = (
    *("variant", "turns", "reply_rate", "handover_rate", "failure_rate", "avg_latency_ms"),
    *("p95_latency_ms", "input_tokens", "output_tokens", "cost", "cost_per_turn"),
)
YOU: Final = "you> "

Name = Annotated[str, typer.Argument(help="The agent, as in [agents.<name>].")]


@app.command()
def chat(
    name: Name,
    *,
    variant: Annotated[str | None, typer.Option(help="This variant; else the first.")] = None,
    as_json: AsJson = False,
    config: Config = None,
) -> None:
    """Talk to an agent, without a database: each line is a message. An empty line, or the input's end, ends it."""
    with explained():
        agent = _named(name, config)
        if not asyncio.run(_chat(agent, variant, as_json=as_json)):
            raise typer.Exit(1)


@app.command()
def compare(
    name: Name,
    *,
    since: Annotated[str, typer.Option(help="How far back, as in 7d or 12h.")] = "7d",
    as_json: AsJson = False,
    config: Config = None,
) -> None:
    """How the variants of an agent did: replies, hand-overs, failures, latency, cost."""
    with explained():
        _named(name, config)
        span = datetime.timedelta(seconds=_duration(since))
    rows = with_pool(config, lambda pool: AgentStore(pool).compare(name, span))
    if as_json:
        print_json(rows)
    else:
        print_rows(rows, COLUMNS)


@app.command()
def forget(
    contact: Annotated[int, typer.Argument(help="The contact's id, as in waemitter.contacts.")],
    *,
    as_json: AsJson = False,
    config: Config = None,
) -> None:
    """Delete what all agents remember of a contact."""
    count = with_pool(config, lambda pool: AgentStore(pool).forget(contact))
    if as_json:
        print_json({"contact": contact, "forgotten": count})
    else:
        typer.echo(f"{count} exchange{'' if count == 1 else 's'} forgotten")


def _duration(text: str) -> float:
    try:
        return parse_duration(text)
    except ValueError as error:
        raise UsageError(f"--since {error}") from None


def _named(name: str, config: Path | None) -> AgentSettings:
    agents = loaded(config).settings.agents
    for agent in agents:
        if agent.name == name:
            return agent
    known = ", ".join(agent.name for agent in agents) or "none is configured"
    raise NotFound(f"there is no agent '{name}' in waemitter.toml ({known})")


async def _chat(settings: AgentSettings, variant: str | None, *, as_json: bool) -> bool:
    """Whether every message was answered."""
    events = Events(Metrics(CollectorRegistry()), logging.configure(level="error", format="auto"))
    circuits = Circuits(observer=events, clock=time.monotonic)
    entries: list[Entry] = []
    fine = True
    async with (
        aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session,
        open_agent(settings, circuits=circuits, observer=events, session=session) as agent,
    ):
        while text := await asyncio.to_thread(_line):
            reply = await _replied(agent, variant, entries, text, as_json=as_json)
            fine = fine and reply is not None
            if reply is not None:
                entries.append(Entry(text, reply))
    return fine


async def _replied(
    agent: Agent, name: str | None, entries: list[Entry], text: str, *, as_json: bool
) -> str | None:
    variants = agent.spec.variants
    variant = next((each for each in variants if name in {None, each.name}), None)
    if variant is None:
        raise NotFound(f"the agent has no variant '{name}'")
    bill, deadline = Bill(), time.monotonic() + agent.spec.timeout
    began = time.monotonic()
    try:
        prepared = await agent.prepare(
            variant, Memory(entries=entries), text, bill=bill, deadline=deadline
        )
        reply = await agent.reply(
            prepared,
            Errand(id=f"chat_{time.time_ns()}"),
            review=agent.spec.review is not None,
            bill=bill,
            deadline=deadline,
        )
    except Unanswered as failure:
        typer.echo(f"waemitter: {failure.failure}: {failure}", err=True)
        return None
    messages = texts(reply.text)
    if as_json:
        print_json(
            {
                "messages": messages,
                "handover": reply.handover,
                "input_tokens": bill.input_tokens,
                "output_tokens": bill.output_tokens,
                "cost": variant.cost(bill.input_tokens, bill.output_tokens),
                "took": round(time.monotonic() - began, 3),
            }
        )
        return reply.text
    for message in messages:
        typer.echo(f"{message['text']['body']}\n")
    if reply.handover:
        typer.echo("(a human goes on from here)\n")
    return reply.text


def _line() -> str:
    """The next message; on a terminal it is asked for."""
    if sys.stdin.isatty():
        sys.stdout.write(YOU)
        sys.stdout.flush()
    return sys.stdin.readline().strip()
