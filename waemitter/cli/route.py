"""`waemitter route`: which route a message takes, and why; nothing is sent, and no database is asked."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from waemitter.cli.context import AsJson, Config, explained, loaded, print_json
from waemitter.errors import UsageError
from waemitter.turns.conditions import Person
from waemitter.turns.routes import Choice, choose
from waemitter.whatsapp.requests import normalise_recipient

app = typer.Typer(no_args_is_help=True)


@app.callback()
def route() -> None:
    """Try the routes of waemitter.toml."""


@app.command("test")
def try_route(  # noqa: PLR0913 an option each
    text: Annotated[str, typer.Argument(help="What the customer writes.")] = "",
    *,
    contact: Annotated[
        str, typer.Option("--contact", help="A phone number or a user id, for percentages.")
    ] = "",
    kind: Annotated[str, typer.Option("--type", help="Meta's message type.")] = "text",
    service: Annotated[
        str | None, typer.Option("--service", help="The active service of the contact's session.")
    ] = None,
    referral: Annotated[
        bool, typer.Option("--referral", help="The message comes from an advertisement.")
    ] = False,
    field: Annotated[
        str | None, typer.Option("--field", help="A webhook field, in place of a message.")
    ] = None,
    event: Annotated[
        str | None, typer.Option("--event", help="What the field tells, as `missed`.")
    ] = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Say which route a message takes by itself, who answers, and why."""
    with explained():
        settings = loaded(config).settings
        if not settings.routes:
            raise UsageError("there are no routes: write [[routes]] into waemitter.toml")
        choice = choose(
            [each.route(settings.inbox.window) for each in settings.routes],
            messages=[
                {"type": field, "field": field, "event": event}
                if field
                else _message(text, kind, referral=referral)
            ],
            person=_person(contact),
            service=service,
        )
    told = _told(choice)
    if as_json:
        print_json(told)
    else:
        typer.echo("\t".join(told[key] or "-" for key in ("route", "answers", "reason")))


def _message(text: str, kind: str, *, referral: bool) -> dict[str, Any]:
    """As Meta would send it; a text beside another type is its caption."""
    message: dict[str, Any] = {"type": kind, kind: {"body" if kind == "text" else "caption": text}}
    return {**message, "referral": {}} if referral else message


def _person(contact: str) -> Person:
    if not contact:
        return Person(None, None)
    found = normalise_recipient(contact)
    if found.kind == "phone":
        return Person(found.value.removeprefix("+"), None)
    return Person(None, found.value)


def _told(choice: Choice | None) -> dict[str, Any]:
    if choice is None:
        reason = "No route matches, and there is no fallback: nobody answers."
        return {"route": None, "variant": None, "handler": None, "answers": None, "reason": reason}
    route, variant, reason = choice
    same = variant.name == variant.handler
    return {
        "route": route.name,
        "variant": variant.name,
        "handler": variant.handler,
        "answers": variant.handler if same else f"{variant.handler} ({variant.name})",
        "reason": reason,
    }
