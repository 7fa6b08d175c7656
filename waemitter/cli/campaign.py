"""`waemitter campaign …`: one message to many, from a list to the last status."""

from __future__ import annotations

import asyncio
import csv
import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Final, TextIO

import typer

from waemitter.cli.campaign_views import Counting, Following, costs, described, listed, report
from waemitter.cli.context import AsJson, Config, explained, print_json, with_pool
from waemitter.cli.send import payload_of
from waemitter.errors import PayloadError, UsageError
from waemitter.outbox.campaigns.costs import estimate, read_rates
from waemitter.outbox.campaigns.enqueue import Report, enqueue
from waemitter.outbox.campaigns.form import Form, template_payload
from waemitter.outbox.campaigns.quiet import parse_quiet_hours
from waemitter.outbox.campaigns.recipients import Listing, read_csv
from waemitter.outbox.campaigns.store import Action, Campaign, CampaignStore, Category, NewCampaign

app: Final = typer.Typer(no_args_is_help=True, help="One message to many.")

LOOK_EVERY: Final = 0.5  # seconds between two looks at a campaign that is followed

Id = Annotated[int, typer.Argument(metavar="ID", help="The campaign's id.")]
Csv = Annotated[
    Path | None, typer.Option("--csv", help="The recipients, with their parameters; - is stdin.")
]
TextBody = Annotated[str | None, typer.Option("--text", help="A text; {{name}} is filled in.")]
Template = Annotated[str | None, typer.Option("--template", help="A template, by its name.")]
Lang = Annotated[str, typer.Option("--lang", help="The template's language.")]
Params = Annotated[
    list[str] | None,
    typer.Option("--param", help="Its body's parameters, in order; without any, the columns'."),
]
File = Annotated[
    Path | None, typer.Option("--payload", help="A payload as in the Cloud API, from a file.")
]
Channel = Annotated[str, typer.Option("--channel", help="The channel to send from.")]
Rate = Annotated[
    float | None, typer.Option("--rate", min=0.001, help="Most messages a second of this campaign.")
]
At = Annotated[
    str | None, typer.Option("--at", help="Start not before, as in 2026-12-01T09:00+01:00.")
]
Expires = Annotated[str | None, typer.Option("--expires", help="Send nothing after this moment.")]
Quiet = Annotated[
    str | None,
    typer.Option("--quiet-hours", help="As in 21:00-08:00, by the recipient's clock."),
]
Kind = Annotated[
    Category,
    typer.Option("--category", help="Of its messages, by which opt-outs concern them."),
]
Wait = Annotated[bool, typer.Option("--wait", help="Follow it until each message has an outcome.")]

Message = tuple[str | None, str | None, str, list[str], Path | None]
"""--text, --template, --lang, --param, --payload."""


@app.command()
def create(  # noqa: PLR0913 an option each
    name: Annotated[str, typer.Argument(help="What you call it.")],
    *,
    recipients: Csv = None,
    text: TextBody = None,
    template: Template = None,
    lang: Lang = "en_US",
    param: Params = None,
    file: File = None,
    channel: Channel = "default",
    category: Kind = Category.MARKETING,
    rate: Rate = None,
    at: At = None,
    expires: Expires = None,
    quiet_hours: Quiet = None,
    priority: Annotated[int, typer.Option(min=-1000, max=1000, help="Higher goes first.")] = 0,
    max_attempts: Annotated[int | None, typer.Option(min=0, help="Retries of a message.")] = None,
    as_json: AsJson = False,
    config: Config = None,
) -> None:
    """Make a draft; its recipients and messages are frozen now, and leave when it is sent."""
    with explained(), _listing(recipients) as listing:
        form = _form((text, template, lang, param or [], file), listing)
        campaign = NewCampaign(
            name=name,
            channel=channel,
            category=category,
            message_type=None if form is None else form.message_type,
            payload=None if form is None else json.dumps(form.payload),
            messages_per_second=rate,
            priority=priority,
            max_attempts=max_attempts,
            starts_at=_moment(at, "--at"),
            expires_at=_moment(expires, "--expires"),
        ).quiet(parse_quiet_hours(quiet_hours) if quiet_hours else None)
        if listing is not None:
            _fits(form, listing)

        async def work(store: CampaignStore) -> tuple[Campaign, Report]:
            campaign_id = await store.create(campaign)
            filled = await _fill(store, await store.get(campaign_id), form, listing)
            return await store.get(campaign_id), filled

        made, filled = with_pool(config, lambda pool: work(CampaignStore(pool)))
    _end(made, filled, as_json=as_json)


@app.command()
def send(  # noqa: PLR0913 an option each
    campaign_id: Id,
    *,
    recipients: Csv = None,
    text: TextBody = None,
    template: Template = None,
    lang: Lang = "en_US",
    param: Params = None,
    file: File = None,
    wait: Wait = False,
    as_json: AsJson = False,
    config: Config = None,
) -> None:
    """Start it, or add recipients to one that runs; each gets its message once, however often this is run."""
    with explained(), _listing(recipients) as listing:
        form = _form((text, template, lang, param or [], file), listing)

        async def work(store: CampaignStore) -> tuple[Campaign, Report]:
            campaign = await store.get(campaign_id)
            filled = await _fill(store, campaign, form, listing)
            await _change(store, campaign_id, "start")
            if wait:
                await _follow(store, campaign_id)
            return await store.get(campaign_id), filled

        sent, filled = with_pool(config, lambda pool: work(CampaignStore(pool)))
    _end(sent, filled, as_json=as_json)


@app.command()
def status(
    campaign_id: Annotated[int | None, typer.Argument(metavar="ID")] = None,
    *,
    watch: Annotated[bool, typer.Option("--watch", help="Follow it to its end.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="Most campaigns.")] = 20,
    as_json: AsJson = False,
    config: Config = None,
) -> None:
    """How far a campaign came, what failed and why, what it cost; without an id, the newest campaigns."""

    async def one(store: CampaignStore, number: int) -> None:
        if watch:
            await _follow(store, number)
        campaign = await store.get(number)
        lines = estimate(await store.charges(number), await store.rates())
        described(campaign, await store.failures(number), costs(lines), as_json=as_json)

    async def all_of_them(store: CampaignStore) -> None:
        listed(await store.list(limit=limit), as_json=as_json)

    with_pool(
        config,
        lambda pool: (
            all_of_them(CampaignStore(pool))
            if campaign_id is None
            else one(CampaignStore(pool), campaign_id)
        ),
    )


@app.command()
def pause(campaign_id: Id, *, as_json: AsJson = False, config: Config = None) -> None:
    """Let no more of it leave."""
    _act(campaign_id, "pause", config, as_json=as_json)


@app.command()
def resume(campaign_id: Id, *, as_json: AsJson = False, config: Config = None) -> None:
    """Go on with a paused one."""
    _act(campaign_id, "resume", config, as_json=as_json)


@app.command()
def cancel(campaign_id: Id, *, as_json: AsJson = False, config: Config = None) -> None:
    """End it: what has not left never will."""
    _act(campaign_id, "cancel", config, as_json=as_json)


@app.command()
def export(
    campaign_id: Id,
    *,
    output: Annotated[Path | None, typer.Option("--output", help="The file; else stdout.")] = None,
    config: Config = None,
) -> None:
    """Every message and what became of it, as CSV."""

    async def work(store: CampaignStore, into: TextIO) -> None:
        await store.get(campaign_id)
        writer = None
        async for row in store.export(campaign_id):
            if writer is None:
                writer = csv.DictWriter(into, list(row), lineterminator="\n")
                writer.writeheader()
            writer.writerow({name: _written(value) for name, value in row.items()})

    with explained():
        try:
            with output.open("w", newline="") if output else _kept(sys.stdout) as into:
                with_pool(config, lambda pool: work(CampaignStore(pool), into))
        except OSError as error:
            raise UsageError(f"{output or 'stdout'}: {error.strerror}") from None


@app.command()
def rates(
    file: Annotated[Path, typer.Argument(help="A rate card as CSV; - is stdin.")],
    *,
    as_json: AsJson = False,
    config: Config = None,
) -> None:
    """Import what Meta charges, by country and category, to tell what a campaign costs."""
    with explained(), _lines(file) as lines:
        card = read_rates(lines)
        with_pool(config, lambda pool: CampaignStore(pool).import_rates(card))
    print_json({"imported": len(card)}) if as_json else typer.echo(f"{len(card)} rates")


def _act(campaign_id: int, action: Action, config: Path | None, *, as_json: bool) -> None:
    async def work(store: CampaignStore) -> Campaign:
        await _change(store, campaign_id, action)
        return await store.get(campaign_id)

    campaign = with_pool(config, lambda pool: work(CampaignStore(pool)))
    if as_json:
        print_json({"id": campaign.id, "status": campaign.status})
    else:
        typer.echo(campaign.status)


async def _change(store: CampaignStore, campaign_id: int, action: Action) -> None:
    campaign = await store.get(campaign_id)
    if not await store.change(campaign_id, action):
        raise UsageError(
            f"campaign {campaign_id} is {campaign.status}: it cannot be {_DONE[action]}"
        )


_DONE: Final[Mapping[Action, str]] = {
    "start": "started",
    "pause": "paused",
    "resume": "resumed",
    "cancel": "cancelled",
}


async def _fill(
    store: CampaignStore, campaign: Campaign, form: Form | None, listing: Listing | None
) -> Report:
    if listing is None:
        return Report()
    if form is None:
        if campaign.message_type is None or campaign.payload is None:
            raise UsageError("the campaign has no message: give --text, --template or --payload")
        form = Form(campaign.message_type, json.loads(campaign.payload))
    _fits(form, listing)
    zoned = campaign.quiet_from is not None
    with Counting() as counting:
        return await enqueue(
            store, campaign.id, form, listing.entries, zoned=zoned, progress=counting.seen
        )


def _fits(form: Form | None, listing: Listing) -> None:
    if form is None:
        raise UsageError("say what to send: --text, --template or --payload")
    try:
        form.require(listing.columns)
    except PayloadError as error:
        raise UsageError(str(error)) from None


async def _follow(store: CampaignStore, campaign_id: int) -> None:
    with Following() as following:
        while True:
            campaign = await store.get(campaign_id)
            following.seen(campaign)
            if campaign.ended >= campaign.total or campaign.status in {"draft", "cancelled"}:
                return
            await asyncio.sleep(LOOK_EVERY)


def _end(campaign: Campaign, filled: Report, *, as_json: bool) -> None:
    report(campaign, filled, as_json=as_json)
    if filled.rejected and filled.seen == len(filled.rejected):
        raise typer.Exit(1)


def _form(message: Message, listing: Listing | None) -> Form | None:
    text, template, lang, parameters, file = message
    if sum(given is not None for given in (text, template, file)) > 1:
        raise UsageError("one message: --text, --template or --payload")
    if text is not None:
        kind, payload = "text", {"text": {"body": text}}
    elif template is not None:
        columns = listing.columns if listing is not None else ()
        kind = "template"
        payload = template_payload(template, lang, columns=columns, parameters=parameters)
    elif file is not None:
        kind, payload = payload_of(file)
    else:
        return None
    try:
        return Form(kind, payload)
    except PayloadError as error:
        raise UsageError(str(error)) from None


@contextmanager
def _lines(file: Path) -> Iterator[Iterator[str]]:
    try:
        if str(file) == "-":
            yield iter(sys.stdin)
            return
        with file.open(encoding="utf-8", newline="") as lines:
            yield iter(lines)
    except UnicodeDecodeError:
        raise UsageError(f"{file} is not UTF-8: save it as CSV UTF-8") from None
    except OSError as error:
        raise UsageError(f"{file}: {error.strerror}") from None


@contextmanager
def _listing(file: Path | None) -> Iterator[Listing | None]:
    if file is None:
        yield None
        return
    with _lines(file) as lines:
        yield read_csv(lines)


@contextmanager
def _kept(stream: TextIO) -> Iterator[TextIO]:
    yield stream


def _moment(text: str | None, option: str) -> datetime | None:
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(
            f"{option} takes a time like 2026-12-01T09:00+01:00, not {text!r}"
        ) from None
    if moment.tzinfo is None:
        raise UsageError(f"{option} needs its zone, as in {text}+01:00 or {text}Z")
    return moment


def _written(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value
