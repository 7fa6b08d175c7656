"""`waemitter demo`: see it work, with nothing but this package installed."""

from __future__ import annotations

import asyncio
import contextlib
import io
import re
import signal
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Final, Self

import typer
from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
from rich.text import Text

from waemitter.cli.context import explained, print_json
from waemitter.ops.demo import Summary, View, demo
from waemitter.ops.store import Funnel, Talk

BARS: Final = ("sent", "delivered", "read", "failed")


class Lines:
    """For a pipe or a log: one line whenever the numbers change, at most a second apart."""

    def __init__(self, *, to_stderr: bool) -> None:
        self._to_stderr = to_stderr
        self._shown: tuple[Funnel, int, Talk] | None = None

    def told(self, line: str) -> None:
        typer.echo(line, err=self._to_stderr)

    def progress(self, funnel: Funnel, replies: int, talk: Talk) -> None:
        if (funnel, replies, talk) != self._shown:
            self._shown = funnel, replies, talk
            self.told(
                f"queued {funnel.waiting:5}  sent {funnel.sent:5}  delivered {funnel.delivered:5}  "
                f"read {funnel.read:5}  failed {funnel.failed:3}  customers wrote {replies:3}  answered {talk.answered:3}"
            )


class Bars:
    """For a terminal: the funnel, live."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._said: list[str] = []
        self._progress = Progress(
            TextColumn("{task.description:>10}"), BarColumn(40), MofNCompleteColumn()
        )
        self._bars: dict[str, TaskID] = {name: self._progress.add_task(name) for name in BARS}
        self._line = Text()
        self._screen = Group(self._progress, self._line)
        self._live = Live(self._screen, console=console, refresh_per_second=10)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def told(self, line: str) -> None:
        self._said.append(line)
        self._console.print(line, highlight=False, markup=False)

    def progress(self, funnel: Funnel, replies: int, talk: Talk) -> None:
        for name, bar in self._bars.items():
            self._progress.update(bar, total=funnel.total, completed=getattr(funnel, name))
        self._line.plain = (
            f"    queued {funnel.waiting} · retried {funnel.retried} · customers wrote {replies}"
            f" · answered {talk.answered}"
        )

    def picture(self) -> str:
        """What the screen shows, as SVG."""
        paper = Console(record=True, width=104, file=io.StringIO(), force_terminal=True)
        paper.print("$ make demo", style="bold")
        for line in self._said[:-1]:
            paper.print(line, highlight=False, markup=False)
        paper.print(self._screen)
        paper.print(self._said[-1], highlight=False, markup=False)
        # Without its web font: a picture in a README fetches nothing.
        return re.sub(
            r"@font-face \{.*?\}", "", paper.export_svg(title="waemitter demo"), flags=re.DOTALL
        )


def run_demo(
    *,
    messages: Annotated[int, typer.Option(min=1, max=1_000_000, help="How many.")] = 500,
    end: Annotated[
        bool, typer.Option("--exit", help="End when every message has its final status.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
    picture: Annotated[
        Path | None, typer.Option(help="Write the last screen to this file, as SVG.")
    ] = None,
) -> None:
    """A campaign through a simulated Cloud API: an embedded Postgres, the daemon, customers who answer."""
    console = Console(stderr=as_json)
    with explained(), contextlib.ExitStack() as stack:
        bars = Bars(console) if console.is_terminal or picture is not None else None
        view = stack.enter_context(bars) if bars is not None else Lines(to_stderr=as_json)
        code = asyncio.run(_show(messages, view, end=end, as_json=as_json))
        if bars is not None and picture is not None:
            picture.write_text(bars.picture())
    raise typer.Exit(code)


async def _show(messages: int, view: View, *, end: bool, as_json: bool) -> int:
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 we run in one
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, task.cancel)
    try:
        async with demo(messages, view) as (summary, address):
            if as_json:
                print_json(asdict(summary))
            else:
                view.told(_written(summary))
            if not end:
                view.told(f"all runs on, at {address} · Ctrl-C ends it")
                await asyncio.Event().wait()
            return int(summary.duplicates > 0)
    except asyncio.CancelledError:
        view.told("stopped: nothing is left running")
        return 0 if not end else 130


def _written(summary: Summary) -> str:
    return f"""
  sent {summary.sent}   delivered {summary.delivered}   read {summary.read}   failed {summary.failed}   \
of {summary.messages} messages
  retried {summary.retried}   duplicates {summary.duplicates}   messages from customers {summary.replies}
  {summary.rate:.1f} messages a second; never more than {summary.peak} in any second (the number's limit is 80)
  pickup, from COMMIT to the request's arrival: p50 {summary.pickup_p50_ms:.1f} ms, p99 {summary.pickup_p99_ms:.1f} ms
  {summary.answers} turns of customers answered, p50 {summary.answer_p50_ms:.0f} ms after the end of their windows"""
