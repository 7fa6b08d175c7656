"""`waemitter run`: the daemon."""

from __future__ import annotations

import contextlib
import gc
import os
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from waemitter.cli.context import Config, explained, loaded
from waemitter.daemon import run_daemon
from waemitter.db.embedded import EmbeddedPostgres
from waemitter.settings import InvalidSettings, Loaded, missing_to_run

# Root's home is closed to the account that Postgres runs as under root.
STATE: Final = (
    Path("/var/lib")
    if os.geteuid() == 0
    else Path(os.environ.get("XDG_STATE_HOME", "~/.local/state"))
) / "waemitter"


def run(
    *,
    embedded: Annotated[
        bool,
        typer.Option(help="Start an embedded Postgres when no database is configured."),
    ] = False,
    state: Annotated[
        Path, typer.Option("--state-directory", help="Where the embedded Postgres lives.")
    ] = STATE,
    apply_schema: Annotated[
        bool, typer.Option("--apply-schema", help="Apply schema.sql before starting.")
    ] = False,
    config: Config = None,
) -> None:
    """Send what is in the outbox, and hear what Meta says of it, until told to stop.

    Exits with 0 when drained, 1 when something crashed, 2 for a wrong setting, 3 when the grace ran
    out, 4 when the schema in the database is not this release's.
    """
    with explained(), contextlib.ExitStack() as stack:
        found = loaded(config)
        if embedded and not found.settings.database.configured:
            directory = state.expanduser()
            directory.mkdir(parents=True, exist_ok=True)
            postgres = stack.enter_context(EmbeddedPostgres(directory / "postgres"))
            found = loaded(config, {"database.url": postgres.dsn()})
            apply_schema = True
        _complete(found)
        code = _on_fastest_loop(lambda: run_daemon(found.settings, apply_schema=apply_schema))
    raise typer.Exit(code)


def _complete(found: Loaded) -> None:
    missing = missing_to_run(found.settings)
    if missing:
        raise InvalidSettings(tuple(missing))


def _on_fastest_loop(main: Callable[[], Coroutine[Any, Any, int]]) -> int:
    import asyncio  # noqa: PLC0415 the loop is chosen here

    _spare_the_collector()
    factory: Callable[[], asyncio.AbstractEventLoop] | None = None
    with contextlib.suppress(ImportError):
        import uvloop  # noqa: PLC0415 not to be had on every platform

        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(main())


def _spare_the_collector() -> None:
    """A twentieth of a busy daemon's time went into looking for garbage among what was imported."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)
