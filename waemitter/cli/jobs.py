"""`waemitter jobs …`: what runs on the clock, and run it now."""

from __future__ import annotations

import json
from typing import Annotated, Final

import typer

from waemitter.cli.context import AsJson, Config, print_json, print_rows, with_pool
from waemitter.jobs.desk import JobDesk
from waemitter.jobs.store import JobRow, JobStore

app: Final = typer.Typer(no_args_is_help=True, help="What runs on the clock.")

COLUMNS: Final = ("name", "schedule", "enabled", "next_run", "last_run_at", "last_status")

Name = Annotated[str, typer.Argument(metavar="NAME", help="The job's name.")]


@app.command("list")
def list_jobs(*, as_json: AsJson = False, config: Config = None) -> None:
    """All jobs: when they run, and how it went last."""
    jobs = with_pool(config, lambda pool: JobStore(pool).list())
    if as_json:
        print_json([_facts(job) for job in jobs])
    else:
        print_rows([_facts(job) | {"schedule": job.schedule_words} for job in jobs], COLUMNS)


@app.command()
def run(
    name: Name,
    *,
    wait: Annotated[
        float, typer.Option(min=0, help="Seconds to wait for its end; 0 only asks for it.")
    ] = 60.0,
    as_json: AsJson = False,
    config: Config = None,
) -> None:
    """Have a running daemon run a job now, be it enabled or not, and print what it did."""
    done = with_pool(config, lambda pool: JobDesk(JobStore(pool)).run(name, within=wait))
    facts = done._asdict() | {"summary": json.loads(done.summary) if done.summary else None}
    if as_json:
        print_json(facts)
    elif done.summary:
        typer.echo(done.summary)
    if done.status == "failed":
        typer.echo(f"waemitter: run {done.id} of {name} failed: {done.error}", err=True)
        raise typer.Exit(1)
    if done.status == "starting" and wait:
        typer.echo(
            f"waemitter: run {done.id} of {name} has not begun: is a daemon running?", err=True
        )
        raise typer.Exit(1)
    if not as_json and not done.summary:
        typer.echo(f"run {done.id} of {name}: {done.status}")


@app.command()
def enable(name: Name, *, config: Config = None) -> None:
    """Have a job run by its schedule again."""
    with_pool(config, lambda pool: JobStore(pool).enable(name, enabled=True))
    typer.echo(f"{name} is enabled")


@app.command()
def disable(name: Name, *, config: Config = None) -> None:
    """Have a job run no more, except by hand."""
    with_pool(config, lambda pool: JobStore(pool).enable(name, enabled=False))
    typer.echo(f"{name} is disabled")


def _facts(job: JobRow) -> dict[str, object]:
    return {
        "name": job.name,
        "schedule": job.schedule,
        "schedule_words": job.schedule_words,
        "time_zone": job.time_zone,
        "enabled": job.enabled,
        "running": job.running,
        "next_run_at": job.next_run_at,
        "next_run": job.next_run,
        "problem": job.problem,
        "last_run_at": job.last_started_at,
        "last_status": job.last_status,
        "last_error": job.last_error,
        "last_summary": json.loads(job.last_summary) if job.last_summary else None,
    }
