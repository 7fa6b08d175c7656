"""`waemitter events …`: who is told of what happens, and whether it reaches them."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Annotated, Any, Final

import typer

from waemitter.cli.context import AsJson, Config, explained, print_json, print_rows, with_pool
from waemitter.errors import UsageError
from waemitter.jobs.event_stream.store import EventStore
from waemitter.settings import parse_duration

app: Final = typer.Typer(no_args_is_help=True, help="Subscriptions to what happens.")

COLUMNS: Final = ("name", "kind", "target", "state", "waiting", "last_delivered_at", "last_error")
FIRST_LOOK: Final = 0.05  # seconds
LONGEST_PAUSE: Final = 0.5

Name = Annotated[str, typer.Argument(metavar="NAME", help="The subscription's name.")]


@app.command("list")
def list_subscriptions(*, as_json: AsJson = False, config: Config = None) -> None:
    """All subscriptions: where they go, and how they fare."""
    found = with_pool(config, lambda pool: EventStore(pool).subscriptions())
    rows = [each | {"state": _state(each)} for each in found]
    if as_json:
        print_json(rows)
    else:
        print_rows(rows, COLUMNS)


@app.command()
def enable(name: Name, *, config: Config = None) -> None:
    """Go on delivering, beginning with what still waits."""
    with_pool(config, lambda pool: EventStore(pool).enable(name, enabled=True))
    typer.echo(f"{name} is enabled")


@app.command()
def disable(name: Name, *, config: Config = None) -> None:
    """Deliver no more; what happens meanwhile is not told later either."""
    with_pool(config, lambda pool: EventStore(pool).enable(name, enabled=False))
    typer.echo(f"{name} is disabled")


@app.command()
def forget(name: Name, *, config: Config = None) -> None:
    """Remove a subscription that is no longer in waemitter.toml, with all that waits for it."""
    with_pool(config, lambda pool: EventStore(pool).forget(name))
    typer.echo(f"{name} is forgotten")


@app.command()
def redeliver(
    name: Name,
    *,
    since: Annotated[str, typer.Option(help="How long ago the first of them happened: 1h, 2d.")],
    as_json: AsJson = False,
    config: Config = None,
) -> None:
    """Deliver once more what was delivered or given up, in its order and under its ids."""
    with explained():
        try:
            ago = timedelta(seconds=parse_duration(since))
        except ValueError as error:
            raise UsageError(f"--since {error}") from None
    count = with_pool(config, lambda pool: EventStore(pool).redeliver(name, ago=ago))
    if as_json:
        print_json({"subscription": name, "events": count})
    else:
        typer.echo(f"{count} events are delivered once more to {name}")


@app.command("test")
def send_test(
    name: Name,
    *,
    wait: Annotated[float, typer.Option(min=0, help="Seconds to wait for its delivery.")] = 30.0,
    as_json: AsJson = False,
    config: Config = None,
) -> None:
    """Have a running daemon deliver a test event, and say what the receiver answered."""
    fate = with_pool(config, lambda pool: _tested(EventStore(pool), name, wait))
    if as_json:
        print_json({"subscription": name} | fate)
    elif fate["delivered"]:
        typer.echo(f"{name} took it at attempt {fate['attempts']}")
    if not fate["delivered"] and wait:
        reason = fate["error"] or "nobody tried: is a daemon with this subscription running?"
        typer.echo(f"waemitter: {name} did not take it: {reason}", err=True)
        raise typer.Exit(1)


async def _tested(store: EventStore, name: str, wait: float) -> dict[str, Any]:
    row = await store.test(name)
    if row is None:
        raise UsageError(f"{name} is disabled: waemitter events enable {name}")
    pause, waited = FIRST_LOOK, 0.0
    fate = await store.fate(row)
    while not fate["delivered"] and fate["error"] is None and waited < wait:
        await asyncio.sleep(pause)
        waited, pause = waited + pause, min(pause * 2, LONGEST_PAUSE)
        fate = await store.fate(row)
    return fate


def _state(row: dict[str, Any]) -> str:
    if row["disabled_at"] is not None:
        return f"disabled: {row['disabled_reason']}"
    return "healthy" if row["failing_since"] is None else "failing"
