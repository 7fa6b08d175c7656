"""`waemitter bench`: how fast it is on this machine."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Callable, Coroutine
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar

import typer
from rich.console import Console
from rich.table import Table

from waemitter.cli.context import AsJson, explained, print_json
from waemitter.ops.bench.chart import chart
from waemitter.ops.bench.load import Load, Served, serve_load
from waemitter.ops.bench.plan import Plan
from waemitter.ops.bench.scale.programs import Program, run_program
from waemitter.ops.bench.sink import fastest_loop
from waemitter.ops.bench.suite import Report, run_suite

T = TypeVar("T")

STEADY: Final = 200.0  # messages a second of a long program, unless told
DIGITS: Final = 3  # that a measurement deserves
WIDTH: Final = 160  # columns, where there is no terminal to tell


Messages = Annotated[int, typer.Option(min=1, max=1_000_000, help="How many.")]
Rate = Annotated[float, typer.Option(min=0, help="Inserts a second; 0 = all in one transaction.")]
Latency = Annotated[float, typer.Option(min=0, help="Milliseconds until the cloud answers.")]
Limit = Annotated[float, typer.Option(min=0, help="The number's messages a second; 0 = no limit.")]
Simulator = Annotated[
    bool,
    typer.Option(
        "--simulator/--sink",
        help="The whole simulator with its statuses, or a lean sink that costs next to nothing.",
    ),
]
Suite = Annotated[
    bool,
    typer.Option("--suite", help="Measure every bar, beside a bare pipeline and other queues."),
]
Webhooks = Annotated[
    float, typer.Option(min=0.1, help="Seconds of webhooks at their steady rate, in the suite.")
]
Conversations = Annotated[
    int, typer.Option(min=1, max=100_000, help="That are talked in at once, in the suite.")
]
Runs = Annotated[int, typer.Option(min=1, max=100, help="How often, in the suite.")]
Only = Annotated[
    list[str] | None, typer.Option(help="Only this group of the suite's bars; may be repeated.")
]
Scale = Annotated[
    Program | None,
    typer.Option(
        help="What only size or time shows: a long backlog, many finished rows, a transaction that stays open, a soak."
    ),
]
Rows = Annotated[int, typer.Option(min=1, help="Of the backlog, or finished; with --scale.")]
Minutes = Annotated[
    float, typer.Option(min=0.01, help="Of the open transaction, or of the soak; with --scale.")
]
Output = Annotated[
    Path | None, typer.Option(help="Write the JSON to this file, too.", dir_okay=False)
]
Picture = Annotated[
    Path | None,
    typer.Option("--chart", help="Draw the suite's bars to this SVG file.", dir_okay=False),
]


def bench(  # noqa: PLR0913 the options of a command
    *,
    messages: Messages = 20_000,
    rate: Rate = 0.0,
    latency: Latency = 0.0,
    limit: Limit = 0.0,
    simulator: Simulator = False,
    suite: Suite = False,
    hearing: Webhooks = 10.0,
    conversations: Conversations = 10_000,
    runs: Runs = 3,
    only: Only = None,
    scale: Scale = None,
    rows: Rows = 1_000_000,
    minutes: Minutes = 10.0,
    as_json: AsJson = False,
    output: Output = None,
    picture: Picture = None,
) -> None:
    """Send messages through a daemon to a simulated Cloud API, and tell the rate and the latencies.

    It brings a Postgres, a cloud and a daemon of its own, and leaves nothing behind.
    """
    if suite:
        plan = Plan(
            runs=runs,
            only=tuple(only or ()),
            messages=messages,
            hearing=hearing,
            conversations=conversations,
        )
        report = _run(run_suite(plan, _progress))
        if picture is not None:
            picture.write_text(chart(report.plain()))
        _tell(report.plain(), lambda: _print_report(report), as_json=as_json, output=output)
    elif scale is not None:
        found = _run(run_program(scale, rows=rows, rate=rate or STEADY, minutes=minutes))
        _tell(
            found, lambda: typer.echo(json.dumps(found, indent=2)), as_json=as_json, output=output
        )
    else:
        load = Load(
            messages=messages,
            rate=rate,
            latency=latency / 1000,
            limit=limit,
            simulator=simulator,
        )
        served = _run(serve_load(load))
        _tell(asdict(served), lambda: _print_served(served), as_json=as_json, output=output)


def _run(measuring: Coroutine[Any, Any, T]) -> T:
    with explained(), asyncio.Runner(loop_factory=fastest_loop()) as runner:
        return runner.run(_until_told(measuring))


async def _until_told(measuring: Coroutine[Any, Any, T]) -> T:
    """By SIGTERM, as by Ctrl-C, it ends what it has started."""
    task, mine = asyncio.ensure_future(measuring), asyncio.current_task()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    try:
        return await task
    except asyncio.CancelledError:
        if mine is not None and mine.cancelling():
            raise  # it was Ctrl-C
        typer.echo("stopped: nothing is left running", err=True)
        raise typer.Exit(128 + signal.SIGTERM) from None


def _progress(line: str) -> None:
    typer.echo(line, err=True)


def _tell(
    found: dict[str, Any], in_words: Callable[[], None], *, as_json: bool, output: Path | None
) -> None:
    if output is not None:
        output.write_text(json.dumps(found, indent=2) + "\n")
    if as_json:
        print_json(found)
    else:
        in_words()


def _print_served(served: Served) -> None:
    typer.echo(f"""\
  {served.messages} messages in {served.seconds:.2f} s: {served.rate:,.0f} a second, at most {served.peak:,} in any one
  lost {served.lost}   doubled {served.doubled}
  from COMMIT to arrival: p50 {served.p50_ms:,.1f} ms, p99 {served.p99_ms:,.1f} ms
  the daemon's CPU: {served.cpu_us:.0f} µs a message""")


def _print_report(report: Report) -> None:
    machine = report.machine
    console = Console()
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("bar", "wanted", "measured", "least", "most", "unit", "", "peers"):
        right = column in {"wanted", "measured", "least", "most"}
        table.add_column(column, justify="right" if right else "left", no_wrap=True)
    for row in (each for bars in report.bars.values() for each in bars):
        mark = {True: "met", False: "MISSED", None: ""}[row.met]
        numbers = (
            f"{number:,.{DIGITS}g}" if number < 10**DIGITS else f"{number:,.0f}"
            for number in row.measured
        )
        table.add_row(row.name, row.wanted, *numbers, row.unit, mark, row.peers)
    if not console.is_terminal:
        console.width = WIDTH
    console.print(table)
    console.print(
        f"{report.plan.runs} runs each, on {machine['processors']} processors ({machine['architecture']}), Python"
        f" {machine['python']}; load average before: {machine['load_average']:.1f}",
        highlight=False,
    )
